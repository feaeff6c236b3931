{{/* What the schema can't say: values that do not go together. Everything that is wrong is told at
     once. */}}
{{- define "pollux.checks" -}}
{{- $wrong := list -}}
{{- $redis := .Values.redis -}}
{{- $external := $redis.external -}}
{{- if eq $redis.mode "none" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- $wrong = append $wrong "more than one node needs Redis, or they would not hear each other: set redis.mode to bundled or external, or replicas to 1 and autoscaling.enabled to false" -}}
{{- end -}}
{{- end -}}
{{- if eq $redis.mode "external" -}}
{{- if and (not $external.url) (not $external.existingSecret) -}}
{{- $wrong = append $wrong "redis.mode is external: say where it is, in redis.external.url or redis.external.existingSecret" -}}
{{- end -}}
{{- if and $external.url $external.existingSecret -}}
{{- $wrong = append $wrong "redis.external.url and redis.external.existingSecret both say where Redis is: keep one" -}}
{{- end -}}
{{- if and $external.sentinelsKey (not $external.existingSecret) -}}
{{- $wrong = append $wrong "redis.external.sentinelsKey is a key of redis.external.existingSecret, which is not set" -}}
{{- end -}}
{{- if and $external.sentinelsKey $external.sentinels -}}
{{- $wrong = append $wrong "redis.external.sentinels and redis.external.sentinelsKey both name the sentinels: keep one" -}}
{{- end -}}
{{- $asked := or (contains "$(REDIS_PASSWORD)" $external.url) (contains "$(REDIS_PASSWORD)" $external.sentinels) -}}
{{- if and $asked (not $external.passwordSecret.name) -}}
{{- $wrong = append $wrong "redis.external.url asks for $(REDIS_PASSWORD): name its Secret in redis.external.passwordSecret.name" -}}
{{- end -}}
{{- if and $external.passwordSecret.name (not $asked) -}}
{{- $wrong = append $wrong "redis.external.passwordSecret is set, but redis.external.url has no $(REDIS_PASSWORD): write redis://:$(REDIS_PASSWORD)@host:6379" -}}
{{- end -}}
{{- $plain := replace "$(REDIS_PASSWORD)" "" (printf "%s %s" $external.url $external.sentinels) -}}
{{- if regexMatch ":[^@/, ]+@" $plain -}}
{{- $wrong = append $wrong "redis.external has a password in it: put the address into a Secret and name that in redis.external.existingSecret, or write $(REDIS_PASSWORD) in its place" -}}
{{- end -}}
{{- $keys := or $external.tls.caKey $external.tls.certKey $external.tls.keyKey -}}
{{- if and $keys (not $external.tls.existingSecret) -}}
{{- $wrong = append $wrong "redis.external.tls has keys of a Secret, but redis.external.tls.existingSecret is not set" -}}
{{- end -}}
{{- if ne (not $external.tls.certKey) (not $external.tls.keyKey) -}}
{{- $wrong = append $wrong "redis.external.tls.certKey and keyKey belong together: set both, or none" -}}
{{- end -}}
{{- else -}}
{{- if or $external.url $external.existingSecret $external.sentinels -}}
{{- $wrong = append $wrong (printf "redis.external is set, but redis.mode is %s: set redis.mode to external" $redis.mode) -}}
{{- end -}}
{{- end -}}
{{- if and (include "pollux.exposed" .) (not (include "pollux.decided" .)) -}}
{{- $wrong = append $wrong "others could come in and nobody said who may connect: name a Secret in secrets.existingSecret, or set config.public to true if everyone may connect, subscribe and publish" -}}
{{- end -}}
{{- if and (hasKey .Values.config "public") (not .Values.config.public) (not .Values.secrets.existingSecret) (not .Values.config.noauth) -}}
{{- $wrong = append $wrong "config.public is false and there is no secret, so that nobody could connect: name a Secret in secrets.existingSecret" -}}
{{- end -}}
{{- if and .Values.secrets.keys (not .Values.secrets.existingSecret) -}}
{{- $wrong = append $wrong "secrets.keys says what a Secret holds, but secrets.existingSecret is not set" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- $wrong = append $wrong "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.targetCPU) (not .Values.autoscaling.parkedPolls.target) -}}
{{- $wrong = append $wrong "autoscaling.enabled needs something to go by: autoscaling.targetCPU or autoscaling.parkedPolls.target" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $wrong = append $wrong "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- $wrong = append $wrong "gateway.enabled needs gateway.parentRefs" -}}
{{- end -}}
{{- if and .Values.config.http_broadcast_port (has (int .Values.config.http_broadcast_port) (list 8080 (int .Values.metrics.port))) -}}
{{- $wrong = append $wrong "config.http_broadcast_port is a port that is taken already" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (hasKey .Values.config "metrics_http") (not .Values.config.metrics_http) -}}
{{- $wrong = append $wrong "metrics.serviceMonitor.enabled needs metrics, but config.metrics_http is empty" -}}
{{- end -}}
{{- $secret := .Files.Lines "files/secrets.txt" -}}
{{- $elsewhere := dict
  "port" "service.port" "metrics_port" "metrics.port" "metrics_host" "networkPolicy.metricsFrom" "node_id" "nothing: it is the pod's name"
  "shutdown_delay" "shutdown.delay" "shutdown_timeout" "shutdown.timeout"
  "ssl_cert" "nginx.tls.existingSecret" "ssl_key" "nginx.tls.existingSecret"
  "redis_url" "redis.external" "redis_sentinels" "redis.external" "redis_tls_verify" "redis.external.tls"
  "redis_tls_ca_cert_path" "redis.external.tls" "redis_tls_client_cert_path" "redis.external.tls" "redis_tls_client_key_path" "redis.external.tls"
-}}
{{- range $option, $value := .Values.config -}}
{{- if has $option $secret -}}
{{- $wrong = append $wrong (printf "config.%s is a secret: put it into a Secret, and name that in secrets.existingSecret and its key in secrets.keys" $option) -}}
{{- else if hasKey $elsewhere $option -}}
{{- $wrong = append $wrong (printf "config.%s is not set here: use %s" $option (get $elsewhere $option)) -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}

{{/* What nodes are told: pollux.toml, and where secrets are. */}}

{{/* The options whose values are in the Secret, with their keys, as YAML. */}}
{{- define "pollux.secrets" -}}
{{- if .Values.secrets.existingSecret -}}
{{- default (dict "secret" "secret") .Values.secrets.keys | toYaml -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* "true" if something outside of the cluster can come in. */}}
{{- define "pollux.exposed" -}}
{{- $opened := and .Values.nginx.enabled (ne .Values.nginx.service.type "ClusterIP") -}}
{{- if or .Values.ingress.enabled .Values.gateway.enabled $opened -}}true{{- end -}}
{{- end -}}

{{/* "true" if it was said who may connect. */}}
{{- define "pollux.decided" -}}
{{- if or .Values.secrets.existingSecret .Values.config.noauth (hasKey .Values.config "public") -}}true{{- end -}}
{{- end -}}

{{/* All options but addresses and secrets, as YAML. */}}
{{- define "pollux.options" -}}
{{- $chosen := dict "host" "0.0.0.0" "trusted_proxies" (concat (list "private") .Values.podNetworks) "log_format" "json" -}}
{{- if not (include "pollux.decided" .) -}}
{{- $_ := set $chosen "public" true -}}
{{- end -}}
{{- range $option, $value := .Values.config -}}
{{- $_ := set $chosen $option $value -}}
{{- end -}}
{{- $_ := set $chosen "port" 8080 -}}
{{- $_ := set $chosen "metrics_port" .Values.metrics.port -}}
{{- $_ := set $chosen "shutdown_delay" .Values.shutdown.delay -}}
{{- $_ := set $chosen "shutdown_timeout" .Values.shutdown.timeout -}}
{{- $external := .Values.redis.external -}}
{{- if eq .Values.redis.mode "bundled" -}}
{{- $_ := set $chosen "redis_url" (printf "redis://%s-redis:6379" (include "pollux.fullname" .)) -}}
{{- else if eq .Values.redis.mode "external" -}}
{{- if $external.existingSecret -}}
{{- $_ := set $chosen "redis_url_file" "/etc/pollux/redis/url" -}}
{{- if $external.sentinelsKey -}}
{{- $_ := set $chosen "redis_sentinels_file" "/etc/pollux/redis/sentinels" -}}
{{- end -}}
{{- else if not $external.passwordSecret.name -}}
{{- $_ := set $chosen "redis_url" $external.url -}}
{{- end -}}
{{- if and $external.sentinels (not $external.passwordSecret.name) -}}
{{- $_ := set $chosen "redis_sentinels" $external.sentinels -}}
{{- end -}}
{{- $_ := set $chosen "redis_tls_verify" $external.tls.verify -}}
{{- if $external.tls.existingSecret -}}
{{- if $external.tls.caKey -}}{{- $_ := set $chosen "redis_tls_ca_cert_path" "/etc/pollux/redis-tls/ca.crt" -}}{{- end -}}
{{- if $external.tls.certKey -}}{{- $_ := set $chosen "redis_tls_client_cert_path" "/etc/pollux/redis-tls/tls.crt" -}}{{- end -}}
{{- if $external.tls.keyKey -}}{{- $_ := set $chosen "redis_tls_client_key_path" "/etc/pollux/redis-tls/tls.key" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $option, $key := (include "pollux.secrets" . | fromYaml) -}}
{{- $_ := set $chosen (printf "%s_file" $option) (printf "/etc/pollux/secrets/%s" $option) -}}
{{- end -}}
{{- toYaml $chosen -}}
{{- end -}}

{{/* pollux.toml. Texts are written as in JSON, which TOML reads; whole numbers without a point or an
     exponent, which YAML may have given them. */}}
{{- define "pollux.toml" -}}
{{- range $option, $value := (include "pollux.options" . | fromYaml) }}
{{- if kindIs "float64" $value }}
{{ $option }} = {{ if eq $value (floor $value) }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{- else }}
{{ $option }} = {{ toRawJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Seconds, rounded up, of 15, "15", "15s", "0.5", "500ms" or "15000ms". */}}
{{- define "pollux.seconds" -}}
{{- $text := toString . -}}
{{- if hasSuffix "ms" $text -}}
{{- divf (trimSuffix "ms" $text | float64) 1000 | ceil | int -}}
{{- else -}}
{{- trimSuffix "s" $text | trim | float64 | ceil | int -}}
{{- end -}}
{{- end -}}

{{/* How long nginx waits for a node: longer than any poll is held. */}}
{{- define "pollux.readTimeout" -}}
{{- $longest := 45 -}}
{{- range $option, $usual := dict "poll_interval" "15s" "mailbox_timeout" "30s" "room_max_wait" "30s" -}}
{{- $longest = max $longest (include "pollux.seconds" (default $usual (get $.Values.config $option)) | int) -}}
{{- end -}}
{{- add $longest 15 -}}
{{- end -}}

{{- define "pollux.categoryReadTimeout" -}}
{{- $longest := include "pollux.seconds" (default "110s" .Values.config.category_max_timeout) | int -}}
{{- max (add $longest 10) 120 -}}
{{- end -}}

{{- define "pollux.gracePeriod" -}}
{{- $parts := .Values.shutdown -}}
{{- add $parts.delay $parts.timeout $parts.margin -}}
{{- end -}}

{{/* The files of nginx: those of the folder nginx/ of the repository, of which files/nginx has copies,
     with what the values change. */}}
{{- define "pollux.nginxFiles" -}}
{{- $nginx := .Values.nginx -}}
nginx.conf: |
  worker_processes {{ $nginx.workerProcesses }};
  # A poll that waits is two connections, one from the client and one to its node, and a connection is
  # an open file.
  worker_rlimit_nofile {{ add (int $nginx.workerConnections) 1024 }};
  # Whoever is still there after this time is closed: WebSockets and event streams do not end by
  # themselves.
  worker_shutdown_timeout {{ $nginx.shutdownTimeout }}s;
  pid /run/nginx.pid;

  # Messages of level error show the request with its query, and tokens travel in that.
  error_log stderr crit;

  events {
      worker_connections {{ int $nginx.workerConnections }};
  }

  http {
      include conf.d/*.conf;
  }
# The image puts NGINX_LOCAL_RESOLVERS in when it starts.
pollux.conf.template: |
  include pollux-maps.conf;

  upstream pollux {
      zone pollux 2m;
      hash $pollux_key consistent;
      # The pods of the nodes, of which nginx hears by the cluster's DNS. It has to be their SRV records:
      # the addresses of a plain name would all have the same place in the hash and take turns, and no
      # client would find its node again; each SRV record has a name of its own. And it has to be a
      # weight that is not 1, or that of the records counts, which changes with their number.
      server {{ include "pollux.headless" . }} service=http resolve weight=2 max_fails=3 fail_timeout=1s;
      resolver {{ default "${NGINX_LOCAL_RESOLVERS}" $nginx.resolver }} valid={{ $nginx.resolverValid }};
      resolver_timeout 3s;
      # Idle connections that each worker keeps. Nodes keep theirs for longer (header_read_timeout), or
      # a poll could meet a connection that is just being closed.
      keepalive 1024;
      keepalive_timeout 60s;
      keepalive_requests 100000;
  }

  server {
      listen 8080 default_server backlog=4096;
      {{- if $nginx.ipv6 }}
      listen [::]:8080 default_server backlog=4096;
      {{- end }}
      {{- if $nginx.tls.existingSecret }}
      listen 8443 ssl default_server backlog=4096;
      {{- if $nginx.ipv6 }}
      listen [::]:8443 ssl default_server backlog=4096;
      {{- end }}
      http2 on;
      ssl_certificate /etc/nginx/tls/tls.crt;
      ssl_certificate_key /etc/nginx/tls/tls.key;
      ssl_protocols TLSv1.2 TLSv1.3;
      ssl_session_cache shared:pollux_tls:10m;
      ssl_session_timeout 1h;
      {{- end }}
      {{- if $nginx.realIp.from }}
      {{- range $nginx.realIp.from }}
      set_real_ip_from {{ . }};
      {{- end }}
      real_ip_header {{ $nginx.realIp.header }};
      real_ip_recursive on;
      {{- end }}
      access_log /dev/stdout pollux buffer=64k flush=1s;
      include pollux-locations.conf;
  }
pollux-maps.conf: |
  {{- include "pollux.nginxMaps" . | nindent 2 }}
pollux-locations.conf: |
  {{- include "pollux.nginxLocations" . | nindent 2 }}
{{- end -}}

{{- define "pollux.nginxMaps" -}}
{{- $maps := .Files.Get "files/nginx/pollux-maps.conf" -}}
{{- with .Values.podNetworks -}}
{{- $networks := "fe80::/10 1;" -}}
{{- range . -}}
{{- $networks = printf "%s\n    %s 1;" $networks . -}}
{{- end -}}
{{- $maps = include "pollux.swap" (list $maps "fe80::/10 1;" $networks) -}}
{{- end -}}
{{- with .Values.nginx.realIp.from -}}
{{- /* The address of a client that a balancer told of says nothing about that balancer. */ -}}
{{- $maps = include "pollux.swap" (list $maps "map \"$pollux_private:$http_x_forwarded_proto\"" "map \"$pollux_balancer:$http_x_forwarded_proto\"") -}}
{{- $balancers := "\n\n# 1 for those in front of this nginx.\ngeo $realip_remote_addr $pollux_balancer {\n    default 0;" -}}
{{- range . -}}
{{- $balancers = printf "%s\n    %s 1;" $balancers . -}}
{{- end -}}
{{- $maps = printf "%s%s\n}" (trim $maps) $balancers -}}
{{- end -}}
{{- trim $maps -}}
{{- end -}}

{{- define "pollux.nginxLocations" -}}
{{- $files := .Files.Get "files/nginx/pollux-locations.conf" -}}
{{- $swaps := list
  (list "client_max_body_size 2m;" (printf "client_max_body_size %s;" .Values.nginx.maxBodySize))
  (list "limit_conn pollux_addresses 5000;" (printf "limit_conn pollux_addresses %d;" (int .Values.nginx.connectionsPerAddress)))
  (list "proxy_read_timeout 60s;" (printf "proxy_read_timeout %ss;" (include "pollux.readTimeout" .)))
  (list "proxy_read_timeout 120s;" (printf "proxy_read_timeout %ss;" (include "pollux.categoryReadTimeout" .)))
  (list "location = /longpoll/events {" (printf "location = %s {" (default "/longpoll/events" .Values.config.category_path)))
  (list "location = /_broadcast {" (printf "location = %s {" (default "/_broadcast" .Values.config.http_broadcast_path)))
  (list "location = /ready {" (printf "location = %s {" (default "/ready" .Values.config.ready_path)))
-}}
{{- range $swaps -}}
{{- $files = include "pollux.swap" (prepend . $files) -}}
{{- end -}}
{{- trim $files -}}
{{- end -}}

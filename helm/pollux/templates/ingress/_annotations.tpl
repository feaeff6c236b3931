{{/* What each controller needs to hear about long polls, and, where it leads to the nodes without
     nginx, about stickiness. */}}

{{- define "pollux.ingressNginx" -}}
nginx.ingress.kubernetes.io/proxy-read-timeout: {{ include "pollux.categoryReadTimeout" . | quote }}
nginx.ingress.kubernetes.io/proxy-send-timeout: "60"
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.ingress.kubernetes.io/proxy-body-size: {{ .Values.nginx.maxBodySize }}
{{- /* Never non_idempotent: a poll's commands would run twice. */}}
nginx.ingress.kubernetes.io/proxy-next-upstream: error timeout
{{- if not .Values.nginx.enabled }}
nginx.ingress.kubernetes.io/affinity: cookie
nginx.ingress.kubernetes.io/affinity-mode: persistent
nginx.ingress.kubernetes.io/session-cookie-name: pollux_pod
nginx.ingress.kubernetes.io/session-cookie-path: /
nginx.ingress.kubernetes.io/session-cookie-samesite: Lax
{{- end }}
{{- end -}}

{{- define "pollux.ingressHaproxy" -}}
haproxy.org/timeout-server: {{ include "pollux.categoryReadTimeout" . }}s
haproxy.org/timeout-tunnel: 1h
haproxy.org/forwarded-for: "true"
{{- if not .Values.nginx.enabled }}
{{- /* The same as nginx/pollux-maps.conf: the route of the poll id, else the cookie, else new. */}}
haproxy.org/backend-config-snippet: |
  http-request set-var(txn.route) req.cook(pollux_route) if { req.cook(pollux_route) -m reg ^[A-Za-z0-9_-]{1,64}$ }
  http-request set-var(txn.route) req.hdr(X-Anycable-Poll-Id),field(1,.) if { req.hdr(X-Anycable-Poll-Id) -m reg ^[A-Za-z0-9_-]{1,64}[.] }
  http-request set-var(txn.fresh) uuid() unless { var(txn.route) -m found }
  http-request set-var(txn.route) var(txn.fresh) if { var(txn.fresh) -m found }
  http-request set-header X-Pollux-Route %[var(txn.route)]
  http-response add-header Set-Cookie "pollux_route=%[var(txn.fresh)]; Path=/; HttpOnly; SameSite=Lax" if { var(txn.fresh) -m found }
  hash-type consistent
haproxy.org/load-balance: hdr(X-Pollux-Route)
{{- end }}
{{- end -}}

{{/* Traefik's stickiness stands at the Service. */}}
{{- define "pollux.ingressTraefik" -}}
{{- end -}}
{{- define "pollux.ingressNone" -}}
{{- end -}}

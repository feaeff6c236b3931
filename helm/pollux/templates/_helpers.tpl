{{/* What objects are called, and how they find each other. */}}

{{- define "pollux.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* 50, so that there is room for what stands behind it: a name has 63 characters at most. */}}
{{- define "pollux.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Called with (dict "root" $ "component" "node"). */}}
{{- define "pollux.selector" -}}
app.kubernetes.io/name: {{ include "pollux.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "pollux.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "pollux.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pollux
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Those of pods have no version, or every update of the chart would replace them. Called with (dict
     "tier" (dict "root" $ "component" "node") "labels" .Values.podLabels). */}}
{{- define "pollux.podLabels" -}}
{{- include "pollux.selector" .tier }}
app.kubernetes.io/part-of: pollux
{{- with .tier.root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pollux.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pollux.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Called with (dict "image" .Values.image "tag" "what counts if it has none"). */}}
{{- define "pollux.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The pod's part of what the level "restricted" of the Pod Security Standards asks for; called with
     the user's number. */}}
{{- define "pollux.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The container's part. */}}
{{- define "pollux.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Called with (dict "root" $ "component" "node"). matchLabelKeys: during an update the pods of the
     old version do not count, as they are leaving. */}}
{{- define "pollux.spread" -}}
{{- $rules := list (list "topology.kubernetes.io/zone" .root.Values.topologySpread.zone) (list "kubernetes.io/hostname" .root.Values.topologySpread.host) -}}
{{- $selector := include "pollux.selector" . -}}
{{- if or .root.Values.topologySpread.zone .root.Values.topologySpread.host -}}
topologySpreadConstraints:
{{- range $rules }}
{{- if index . 1 }}
  - maxSkew: 1
    topologyKey: {{ index . 0 }}
    whenUnsatisfiable: {{ index . 1 }}
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Where pods may run; called with the values that have these keys. */}}
{{- define "pollux.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* The Service that clients come to, and its port. */}}
{{- define "pollux.door" -}}
{{- if .Values.nginx.enabled -}}
name: {{ include "pollux.fullname" . }}-nginx
port: {{ .Values.nginx.service.port }}
{{- else -}}
name: {{ include "pollux.fullname" . }}
port: {{ .Values.service.port }}
{{- end -}}
{{- end -}}

{{/* The name under which nginx finds the nodes' pods; its final dot would become part of theirs. */}}
{{- define "pollux.headless" -}}
{{- printf "%s-headless.%s.svc.%s" (include "pollux.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{/* "a changed text": replaces what has to be there. Called with (list text old new). */}}
{{- define "pollux.swap" -}}
{{- if not (contains (index . 1) (index . 0)) -}}
{{- fail (printf "the chart is broken: its nginx files have no %q" (index . 1)) -}}
{{- end -}}
{{- replace (index . 1) (index . 2) (index . 0) -}}
{{- end -}}

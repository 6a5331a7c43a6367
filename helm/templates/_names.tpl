{{- define "osa.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- /* Short enough for what is appended to it. */ -}}
{{- define "osa.fullname" -}}
{{- $name := include "osa.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{- /* Of a dict {root, component}. */ -}}
{{- define "osa.selectorLabels" -}}
app.kubernetes.io/name: {{ include "osa.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "osa.labels" -}}
{{ include "osa.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "osa.podLabels" -}}
{{ include "osa.selectorLabels" . }}
{{- with merge (dict) (.root.Values.podLabels | default dict) (.root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "osa.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "osa.fullname" .) "default") -}}
{{- end }}

{{- define "osa.tag" -}}
{{- .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion (.Values.gpu.enabled | ternary "cuda" "cpu")) -}}
{{- end }}

{{- /* Of a dict {repository, tag, digest}. */ -}}
{{- define "osa.reference" -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end -}}
{{- end }}

{{- define "osa.image" -}}
{{- include "osa.reference" (dict "repository" .Values.image.repository "tag" (include "osa.tag" .) "digest" .Values.image.digest) -}}
{{- end }}

{{- define "osa.jobImage" -}}
{{- $image := .Values.jobs.image -}}
{{- $tag := $image.tag | default (printf "%s-train" (include "osa.tag" .)) -}}
{{- include "osa.reference" (dict "repository" ($image.repository | default .Values.image.repository) "tag" $tag "digest" $image.digest) -}}
{{- end }}

{{- /* What Prometheus calls this release. */ -}}
{{- define "osa.job" -}}
{{- .Values.monitoring.job | default (include "osa.fullname" .) -}}
{{- end }}

{{- /* Settings as JSON. Null is "not set", of a setting, of a section, and in the table of a model,
       where the server would take it for a value. */ -}}
{{- define "osa.settings" -}}
{{- $settings := dict -}}
{{- range $section, $fields := .Values.settings | default dict -}}
{{- $kept := dict -}}
{{- range $field, $value := $fields | default dict -}}
{{- if kindIs "map" $value -}}
{{- $inner := dict -}}
{{- range $key, $item := $value -}}
{{- if not (kindIs "invalid" $item) }}{{ $_ := set $inner $key $item }}{{ end -}}
{{- end -}}
{{- $_ := set $kept $field $inner -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $field $value -}}
{{- end -}}
{{- end -}}
{{- if $kept }}{{ $_ := set $settings $section $kept }}{{ end -}}
{{- end -}}
{{- toJson $settings -}}
{{- end }}

{{- /* Port of the container: the server's own setting. */ -}}
{{- define "osa.port" -}}
{{- dig "server" "port" 8080 (include "osa.settings" . | fromJson) | int -}}
{{- end }}

{{- /* Port of gRPC, of container and service: the server's own setting; 0 is none. */ -}}
{{- define "osa.grpcPort" -}}
{{- dig "server" "grpc_port" 0 (include "osa.settings" . | fromJson) | int -}}
{{- end }}

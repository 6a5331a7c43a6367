{{- /* Parts that every pod of the chart has. */ -}}

{{- define "osa.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "osa.serviceAccountName" . }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "osa.scheduling" -}}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.gpu.enabled .Values.tolerations }}
tolerations:
  {{- if .Values.gpu.enabled }}
  - key: {{ .Values.gpu.resourceName }}
    operator: Exists
    effect: NoSchedule
  {{- end }}
  {{- with .Values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Of a dict {root, resources, gpus}. A GPU is a limit; the request follows from it. */ -}}
{{- define "osa.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .root.Values.gpu.enabled -}}
{{- $gpus := dict .root.Values.gpu.resourceName .gpus -}}
{{- $_ := set $resources "limits" (merge $gpus ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- /* torch counts the cores of the node, not what the pod may use of them. */ -}}
{{- define "osa.threadsEnv" -}}
{{- if dig "requests" "cpu" "" . }}
- name: OMP_NUM_THREADS
  valueFrom:
    resourceFieldRef: {resource: requests.cpu}
{{- end }}
{{- end }}

{{- /* OSA_<SECTION>__<FIELD>; toJson, because Helm prints large numbers as 1e+06. Names of models
       keep their case in OSA_MODELS alone. */ -}}
{{- define "osa.settingsEnv" -}}
{{- with .Values.settings.models }}
- name: OSA_MODELS
  value: {{ toJson . | quote }}
{{- end }}
{{- range $section, $fields := omit .Values.settings "models" }}
{{- range $field, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
- name: OSA_{{ upper $section }}__{{ upper $field }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.gpu.enabled (not (dig "model" "device" "" .Values.settings)) }}
- name: OSA_MODEL__DEVICE
  value: cuda
{{- end }}
{{- with include "osa.modelPath" . }}
- name: OSA_MODEL__PATH
  value: {{ . | quote }}
{{- end }}
{{- include "osa.hubEnv" . }}
{{- end }}

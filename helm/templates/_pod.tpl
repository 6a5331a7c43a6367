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

{{- /* The affinity of the values; with gpu.minDriver every term of its node affinity also asks for
       the driver, by the label of NVIDIA's GPU feature discovery. */ -}}
{{- define "osa.affinity" -}}
{{- $affinity := deepCopy (.Values.affinity | default dict) -}}
{{- if and .Values.gpu.enabled .Values.gpu.minDriver -}}
{{- $label := dict "key" "nvidia.com/cuda.driver-version.major" "operator" "Gt" "values" (list (sub (.Values.gpu.minDriver | int) 1 | toString)) -}}
{{- $terms := list -}}
{{- range dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" (list dict) $affinity -}}
{{- $terms = append $terms (merge (dict "matchExpressions" (append (.matchExpressions | default list) $label)) .) -}}
{{- end -}}
{{- $node := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $_ := set $affinity "nodeAffinity" (merge $node (get $affinity "nodeAffinity" | default dict)) -}}
{{- end -}}
{{- toYaml $affinity -}}
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
{{- with include "osa.affinity" . | fromYaml }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.gpu.enabled .Values.tolerations }}
tolerations:
  {{- if .Values.gpu.enabled }}
  {{- range uniq (list .Values.gpu.resourceName "nvidia.com/gpu") }}
  - key: {{ . }}
    operator: Exists
    effect: NoSchedule
  {{- end }}
  {{- end }}
  {{- with .Values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Of a dict {root, resources, gpus}. A GPU is a limit; the request follows from it. */ -}}
{{- define "osa.resources" -}}
{{- $resources := deepCopy (.resources | default dict) -}}
{{- if .root.Values.gpu.enabled -}}
{{- $gpus := dict .root.Values.gpu.resourceName .gpus -}}
{{- $_ := set $resources "limits" (merge $gpus ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- /* A quantity of CPU in thousandths of a core. */ -}}
{{- define "osa.millicores" -}}
{{- $text := toString . -}}
{{- if hasSuffix "m" $text }}{{ trimSuffix "m" $text | float64 | int64 }}{{ else }}{{ mulf $text 1000 | int64 }}{{ end -}}
{{- end }}

{{- /* Of a dict {root, resources}. Threads of the request, which the server cannot see: Kubernetes
       rounds it up. Of the limit, where that is less or alone, whole cores, as the server takes of a
       quota. None of both: the server looks itself. A variable in extraEnv is left to it. */ -}}
{{- define "osa.threadsEnv" -}}
{{- $request := dig "requests" "cpu" "" (.resources | default dict) -}}
{{- $limit := dig "limits" "cpu" "" (.resources | default dict) -}}
{{- $cores := 0 -}}
{{- if $limit }}{{ $cores = max 1 (div (include "osa.millicores" $limit) 1000) }}{{ end -}}
{{- if and $request $limit -}}
{{- $asked := div (add (include "osa.millicores" $request) 999) 1000 -}}
{{- if le $asked $cores }}{{ $cores = 0 }}{{ end -}}
{{- end -}}
{{- $named := list -}}
{{- range .root.Values.extraEnv }}{{ $named = append $named .name }}{{ end -}}
{{- range list "OMP_NUM_THREADS" "RAYON_NUM_THREADS" }}
{{- if not (has . $named) }}
{{- if $cores }}
- name: {{ . }}
  value: {{ $cores | quote }}
{{- else if $request }}
- name: {{ . }}
  valueFrom:
    resourceFieldRef: {resource: requests.cpu}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Pods of a Deployment that is scaled by others. A field that a release had and leaves out goes
       back to its default, which is one pod: a release that had a number once states the one that
       there is; one that was scaled from its start never states any, so that a rollback does not
       either. Without a cluster (helm template) nothing is known, and nothing is stated. */ -}}
{{- define "osa.scaledReplicas" -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "osa.fullname" .) -}}
{{- if and $live (not (dig "metadata" "annotations" (include "osa.scaledFromStart" .) "" $live)) -}}
{{- max (dig "spec" "replicas" 1 $live | int) (.Values.autoscaling.minReplicas | int) -}}
{{- end -}}
{{- end }}

{{- define "osa.scaledFromStart" -}}
osa-encoder/scaled-from-start
{{- end }}

{{- /* OSA_<SECTION>__<FIELD>; toJson, because Helm prints large numbers as 1e+06. Names of models
       keep their case in OSA_MODELS alone. */ -}}
{{- define "osa.settingsEnv" -}}
{{- $settings := include "osa.settings" . | fromJson }}
{{- with $settings.models }}
- name: OSA_MODELS
  value: {{ toJson . | quote }}
{{- end }}
{{- range $section, $fields := omit $settings "models" }}
{{- range $field, $value := $fields }}
- name: OSA_{{ upper $section }}__{{ upper $field }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- if and .Values.gpu.enabled (not (dig "model" "device" "" $settings)) }}
- name: OSA_MODEL__DEVICE
  value: cuda
{{- end }}
{{- with include "osa.modelPath" . }}
- name: OSA_MODEL__PATH
  value: {{ . | quote }}
{{- end }}
{{- include "osa.hubEnv" . }}
{{- end }}

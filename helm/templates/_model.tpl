{{- /* The model: where it comes from, and what has to be mounted and run for it. */ -}}

{{- define "osa.modelPath" -}}
{{- if eq .Values.model.source "image" -}}
{{- .Values.model.path | default "" -}}
{{- else if eq .Values.model.source "huggingface" -}}
{{- printf "hf:%s@%s" .Values.model.huggingface.repository .Values.model.huggingface.revision -}}
{{- else -}}
{{- printf "/models/%s" (.Values.model.path | default "") | trimSuffix "/" -}}
{{- end -}}
{{- end }}

{{- define "osa.modelVolumes" -}}
{{- $model := .Values.model -}}
{{- if eq $model.source "pvc" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ $model.pvc.claimName }}
    readOnly: true
{{- else if eq $model.source "oci" }}
- name: model
  image:
    reference: {{ $model.oci.reference }}
    pullPolicy: {{ $model.oci.pullPolicy }}
{{- else if eq $model.source "huggingface" }}
- name: model
  {{- with $model.huggingface.cacheClaim }}
  persistentVolumeClaim: {claimName: {{ . }}}
  {{- else }}
  emptyDir:
    sizeLimit: {{ $model.sizeLimit }}
  {{- end }}
{{- with $model.huggingface.existingSecret }}
- name: hub-token
  secret: {secretName: {{ . }}}
{{- end }}
{{- else if has $model.source (list "http" "s3") }}
- name: model
  emptyDir:
    sizeLimit: {{ $model.sizeLimit }}
- name: fetch
  configMap:
    name: {{ include "osa.fullname" . }}-fetch
{{- end }}
{{- end }}

{{- define "osa.modelMounts" -}}
{{- if ne .Values.model.source "image" }}
- name: model
  mountPath: /models
  readOnly: true
  {{- if and (eq .Values.model.source "pvc") .Values.model.pvc.subPath }}
  subPath: {{ .Values.model.pvc.subPath }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "osa.modelInitContainers" -}}
{{- $model := .Values.model -}}
{{- if eq $model.source "s3" }}
- name: download
  image: {{ $model.s3.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - s3
    - cp
    - --no-progress
    {{- with $model.s3.endpoint }}
    - --endpoint-url={{ . }}
    {{- end }}
    - {{ $model.s3.uri | quote }}
    - /models/.archive
  env:
    - {name: HOME, value: /tmp}
    {{- with $model.s3.region }}
    - {name: AWS_REGION, value: {{ . | quote }}}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or $model.s3.existingSecret .Values.extraEnvFrom }}
  envFrom:
    {{- with $model.s3.existingSecret }}
    - secretRef: {name: {{ . }}}
    {{- end }}
    {{- with .Values.extraEnvFrom }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- include "osa.fetchContainer" . | nindent 2 }}
{{- end }}
{{- if has $model.source (list "http" "s3") }}
- name: fetch
  image: {{ include "osa.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - /etc/osa/fetch/fetch_model.py
    {{- if eq $model.source "http" }}
    - {{ $model.http.url | quote }}
    - {{ $model.http.sha256 | quote }}
    {{- else }}
    - /models/.archive
    - {{ $model.s3.sha256 | quote }}
    {{- end }}
    - /models
    - {{ kindIs "string" $model.sizeLimit | ternary $model.sizeLimit (toJson $model.sizeLimit) | quote }}
  {{- with .Values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "osa.fetchContainer" . | nindent 2 }}
{{- end }}
{{- if eq $model.source "huggingface" }}
- name: download
  image: {{ include "osa.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [download, {{ include "osa.modelPath" . | quote }}]
  env:
    - {name: HF_HUB_CACHE, value: /models}
    - {name: HF_HOME, value: /tmp/huggingface}
    {{- with $model.huggingface.endpoint }}
    - {name: HF_ENDPOINT, value: {{ . | quote }}}
    {{- end }}
    {{- if $model.huggingface.existingSecret }}
    - {name: HF_TOKEN_PATH, value: {{ printf "/etc/osa/hub/%s" $model.huggingface.key }}}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "osa.fetchContainer" . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The server finds the model in the cache, and asks nobody: what an init container fetched. */ -}}
{{- define "osa.hubEnv" -}}
{{- if eq .Values.model.source "huggingface" }}
- {name: HF_HUB_CACHE, value: /models}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- end }}

{{- /* Environment and mounts of the server too: proxies and certificates are for downloads. */ -}}
{{- define "osa.fetchContainer" -}}
resources:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {memory: 1Gi}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - {name: model, mountPath: /models}
  {{- if ne .Values.model.source "huggingface" }}
  - {name: fetch, mountPath: /etc/osa/fetch, readOnly: true}
  {{- else if .Values.model.huggingface.existingSecret }}
  - {name: hub-token, mountPath: /etc/osa/hub, readOnly: true}
  {{- end }}
  - {name: scratch, mountPath: /tmp}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

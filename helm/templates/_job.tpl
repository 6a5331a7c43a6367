{{- /* Pod of a job. Of a dict {root, component, job, gpus, command, env, subdomain, initContainers, volumes, mounts}. */ -}}
{{- define "osa.jobPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "osa.podLabels" (dict "root" $root "component" .component) | nindent 4 }}
  {{- with $root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  {{- with .subdomain }}
  subdomain: {{ . }}
  {{- end }}
  {{- include "osa.podSecurity" $root | nindent 2 }}
  {{- with include "osa.scheduling" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  # SIGTERM saves the state
  terminationGracePeriodSeconds: 120
  {{- with .initContainers | trim }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "osa.jobImage" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- with .command }}
      command:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # relative paths, such as the caches of a training, are kept with its output
      workingDir: /output
      {{- $threads := include "osa.threadsEnv" (dict "root" $root "resources" .job.resources) }}
      {{- $more := $root.Values.extraEnv | empty | ternary "" (toYaml $root.Values.extraEnv) }}
      {{- with list .env $threads $more | join "\n" | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- include "osa.resources" (dict "root" $root "resources" .job.resources "gpus" .gpus) | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: scratch, mountPath: /tmp}
        - {name: data, mountPath: /data, readOnly: true}
        - {name: output, mountPath: /output}
        {{- with .mounts | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: scratch
      emptyDir: {sizeLimit: {{ $root.Values.scratchSizeLimit }}}
    - name: data
      persistentVolumeClaim: {claimName: {{ .job.dataClaim }}, readOnly: true}
    - name: output
      persistentVolumeClaim: {claimName: {{ .job.outputClaim }}}
    {{- with .volumes | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* A job cannot be changed: other values make another job. Of a dict {root, component, job}. */ -}}
{{- define "osa.jobName" -}}
{{- $what := list .job (include "osa.jobImage" .root) .root.Values.gpu .root.Values.model | toJson | sha256sum | trunc 8 -}}
{{- printf "%s-%s-%s" (include "osa.fullname" .root | trunc 40 | trimSuffix "-") .component $what -}}
{{- end }}

{{/* What all pods share, and the one pod template of web, workers, relay and jobs. */}}

{{/* PodSecurity "restricted" for a pod of any image. */}}
{{- define "fashionistar.podBase" -}}
serviceAccountName: {{ include "fashionistar.object" (list . "app") }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* …and for each of its containers. */}}
{{- define "fashionistar.containerBase" -}}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* The pod template, from a dict:
       root         .
       component    label and container name
       labels       more labels (optional)
       annotations  annotations of the pod (optional)
       args         list: the command of `python -m app`
       resources    of the container
       grace        seconds
       telemetry    true: metrics port and OTEL_* variables
       env          list of more variables (optional)
       container    YAML: ports, probes, lifecycle (optional)
       job          true: runs to its end and is never restarted in place
       wait         true: starts when the schema is there */}}
{{- define "fashionistar.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "fashionistar.labels" (list $root .component) | nindent 4 }}
    {{- with .labels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "fashionistar.podBase" $root | nindent 2 }}
  terminationGracePeriodSeconds: {{ .grace }}
  {{- if .job }}
  restartPolicy: Never
  {{- end }}
  {{- if .wait }}
  initContainers:
    - name: wait-for-schema
      {{- include "fashionistar.appContainer" (dict "root" $root "resources" $root.Values.migrations.resources
          "args" (list "wait_for_schema" "--timeout" (toString $root.Values.migrations.deadlineSeconds))) | nindent 6 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      {{- include "fashionistar.appContainer" . | nindent 6 }}
      {{- with .container }}{{ . | nindent 6 }}{{ end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- end -}}

{{- define "fashionistar.appContainer" -}}
image: {{ include "fashionistar.image" (list .root.Values.image .root.Chart.AppVersion) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: {{ toJson .args }}
{{ include "fashionistar.containerBase" . }}
resources: {{- toYaml .resources | nindent 2 }}
envFrom:
  - configMapRef: {name: {{ include "fashionistar.object" (list .root "settings") }}}
env:
  {{- include "fashionistar.secretEnv" .root | nindent 2 }}
  {{- if .telemetry }}{{ include "fashionistar.telemetryEnv" . | nindent 2 }}{{ else }}
  - {name: METRICS_PORT, value: "0"}
  {{- end }}
  {{- with .env }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- with .root.Values.app.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Prometheus on its own port; traces carry who and where they come from, without a collector that may list pods. */}}
{{- define "fashionistar.telemetryEnv" -}}
- {name: METRICS_PORT, value: "9464"}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: OTEL_SERVICE_NAME, value: fashionistar-{{ .component }}}
{{- with .root.Values.telemetry.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: http/protobuf}
{{- end }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: >-
    service.namespace={{ .root.Release.Name }},service.version={{ include "fashionistar.version" .root }},service.instance.id=$(POD_NAME),deployment.environment.name={{ .root.Values.telemetry.environment }},k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID),k8s.node.name=$(NODE_NAME),k8s.container.name={{ .component }}
{{- end -}}

{{- define "fashionistar.version" -}}
{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}

{{- define "fashionistar.httpProbe" -}}
{httpGet: {path: {{ index . 0 }}, port: {{ index . 1 }}}, periodSeconds: {{ index . 2 }}, timeoutSeconds: {{ index . 3 }}, failureThreshold: {{ index . 4 }}}
{{- end -}}

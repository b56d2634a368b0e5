{{- define "fashionistar.webContainer" -}}
ports:
  - {name: http, containerPort: 8000}
  - {name: metrics, containerPort: 9464}
startupProbe: {{ include "fashionistar.httpProbe" (list "/livez" "http" 1 5 90) }}
readinessProbe: {{ include "fashionistar.httpProbe" (list "/readyz" "http" 5 3 2) }}
livenessProbe: {{ include "fashionistar.httpProbe" (list "/livez" "http" 10 5 3) }}
lifecycle:
  preStop: {sleep: {seconds: {{ .Values.web.preStopSeconds }}}}
{{- end -}}

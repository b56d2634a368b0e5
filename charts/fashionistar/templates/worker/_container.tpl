{{/* Workers and relay: no HTTP but metrics. */}}
{{- define "fashionistar.taskProcess" -}}
ports:
  - {name: metrics, containerPort: 9464}
startupProbe: {{ include "fashionistar.httpProbe" (list "/metrics" "metrics" 1 5 90) }}
livenessProbe: {{ include "fashionistar.httpProbe" (list "/metrics" "metrics" 10 5 6) }}
{{- end -}}

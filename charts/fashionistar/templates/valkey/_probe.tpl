{{- define "fashionistar.valkeyProbe" -}}
{exec: {command: [sh, /etc/valkey/valkey.sh, {{ index . 0 }}]}, periodSeconds: {{ index . 1 }}, timeoutSeconds: 5, failureThreshold: {{ index . 2 }}}
{{- end -}}

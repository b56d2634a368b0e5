{{- define "fashionistar.pgProbe" -}}
{exec: {command: [pg_isready, --quiet, --host, 127.0.0.1, --username, postgres, --dbname, {{ (index . 0).Values.postgres.database | quote }}]}, periodSeconds: {{ index . 1 }}, timeoutSeconds: 5, failureThreshold: {{ index . 2 }}}
{{- end -}}

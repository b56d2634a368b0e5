{{/* A Job of the application, named by the hash of its whole rendered spec: what would change an immutable field makes
     a new Job instead, and what changes nothing leaves the finished one alone. Dict: root, component, args, wait. */}}
{{- define "fashionistar.job" -}}
{{- $root := .root -}}
{{- $database := dict "checksum/database" (include "fashionistar.databaseSettings" $root | sha256sum | trunc 16) -}}
{{- $pod := include "fashionistar.pod" (merge . (dict "job" true "annotations" $database "grace" 30 "resources" $root.Values.migrations.resources)) -}}
{{- $spec := printf "backoffLimit: %v\nactiveDeadlineSeconds: %v\ntemplate:\n%s" $root.Values.migrations.backoffLimit $root.Values.migrations.deadlineSeconds ($pod | indent 2) -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "fashionistar.object" (list $root (printf "%s-%s" .component (sha256sum $spec | trunc 10))) }}
  labels: {{- include "fashionistar.labels" (list $root .component) | nindent 4 }}
spec: {{- $spec | nindent 2 }}
{{- end -}}

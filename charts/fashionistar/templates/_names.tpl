{{/* Object names and labels. */}}

{{- define "fashionistar.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fashionistar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "fashionistar.name" .) .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "fashionistar.name" .) -}}
{{- end -}}
{{- end -}}

{{/* (list root "web") -> "<fullname>-web", at most 52 characters: long names are cut and keep a hash. Pods,
     controller revisions and hostnames add to it and must stay within 63. */}}
{{- define "fashionistar.object" -}}
{{- $full := include "fashionistar.fullname" (index . 0) -}}
{{- $part := index . 1 -}}
{{- $name := printf "%s-%s" $full $part -}}
{{- if gt (len $name) 52 -}}
{{- $room := sub 42 (len $part) | int -}}
{{- $name = printf "%s-%s-%s" (trunc $room $full | trimSuffix "-") (sha256sum $full | trunc 8) $part -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* (list root "web") -> the labels that select; they never change. */}}
{{- define "fashionistar.selector" -}}
app.kubernetes.io/name: {{ include "fashionistar.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* (list root "web") -> labels of objects and pods. No version among them: claims and Jobs cannot change labels. */}}
{{- define "fashionistar.labels" -}}
{{ include "fashionistar.selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end -}}

{{/* (list image fallback-tag) -> repository:tag@digest */}}
{{- define "fashionistar.image" -}}
{{- $image := index . 0 -}}
{{- printf "%s:%s" $image.repository ($image.tag | default (index . 1)) -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Mistakes that a schema cannot see. Each message names the fix. Rendered once, from config/settings.yaml. */}}

{{- define "fashionistar.checks" -}}
{{- include "fashionistar.checks.secrets" . -}}
{{- include "fashionistar.checks.addresses" . -}}
{{- if eq (.Values.image.tag | default .Chart.AppVersion) "latest" -}}
{{- fail "\n\nimage.tag: \"latest\" names no version, so a new image would not run its migrations. Give the tag of the image you built." -}}
{{- end -}}
{{- end -}}

{{/* (list root value-path name literals) -> one kubectl line */}}
{{- define "fashionistar.secretCommand" -}}
{{- $root := index . 0 -}}
{{- $name := include "fashionistar.object" (list $root (index . 2)) -}}
  kubectl create secret generic {{ $name }} --namespace {{ $root.Release.Namespace }}
{{- range index . 3 }} --from-literal={{ . }}="$(openssl rand -hex 24)"{{ end }}
{{- printf "\n  …and give --set %s=%s\n" (index . 1) $name -}}
{{- end -}}

{{- define "fashionistar.checks.secrets" -}}
{{- if not .Values.dev.insecureSecrets -}}
{{- $missing := "" -}}
{{- if not .Values.app.existingSecret -}}
{{- $missing = print $missing (include "fashionistar.secretCommand" (list . "app.existingSecret" "app" (list "secret-key"))) -}}
{{- end -}}
{{- if not .Values.postgres.existingSecret -}}
{{- $missing = print $missing (include "fashionistar.secretCommand" (list . "postgres.existingSecret" "postgres" (list "superuser-password" "app-a-password" "app-b-password"))) -}}
{{- end -}}
{{- if not .Values.valkey.existingSecret -}}
{{- $missing = print $missing (include "fashionistar.secretCommand" (list . "valkey.existingSecret" "valkey" (list "queue-password"))) -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "\n\nCredentials are missing. Run:\n\n%s\nOn a laptop --set dev.insecureSecrets=true gives fixed, public passwords instead." $missing) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fashionistar.checks.addresses" -}}
{{- if not (or .Values.app.publicBaseUrl .Values.ingress.hosts) -}}
{{- fail "\n\napp.publicBaseUrl: where do clients reach the shop? Give --set app.publicBaseUrl=https://shop.example.com, or ingress.enabled=true and ingress.hosts." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "\n\ningress.hosts: the Ingress needs at least one host name: --set 'ingress.hosts={shop.example.com}', or ingress.enabled=false." -}}
{{- end -}}
{{- if not (or .Values.email.url .Values.demo.enabled) -}}
{{- fail "\n\nemail.url: no mail server is named. Give --set email.url=smtp://mail.example.com:25, or demo.enabled=true for a sink." -}}
{{- end -}}
{{- end -}}

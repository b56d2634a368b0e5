{{/* The application's settings (app/config/settings.py) from the values. */}}

{{/* (list root "app") -> the Secret of that credential: the given one, or the insecure one of the chart. */}}
{{- define "fashionistar.secretName" -}}
{{- $root := index . 0 -}}
{{- (index $root.Values (index . 1)).existingSecret | default (include "fashionistar.object" (list $root (printf "insecure-%s" (index . 1)))) -}}
{{- end -}}

{{- define "fashionistar.secretEnv" -}}
- {name: SECRET_KEY, valueFrom: {secretKeyRef: {name: {{ include "fashionistar.secretName" (list . "app") }}, key: secret-key}}}
- {name: DATABASE_PASSWORD, valueFrom: {secretKeyRef: {name: {{ include "fashionistar.secretName" (list . "postgres") }}, key: {{ .Values.postgres.login | replace "_" "-" }}-password}}}
- {name: QUEUE_PASSWORD, valueFrom: {secretKeyRef: {name: {{ include "fashionistar.secretName" (list . "valkey") }}, key: queue-password}}}
- {name: CACHE_PASSWORD, valueFrom: {secretKeyRef: {name: {{ include "fashionistar.secretName" (list . "valkey") }}, key: queue-password}}}
{{- with .Values.email.existingSecret }}
- {name: EMAIL_PASSWORD, valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}}
{{- end }}
{{- end -}}

{{/* Where the database is; jobs carry a hash of this, so that another database is migrated, too. */}}
{{- define "fashionistar.databaseSettings" -}}
{{- $dsn := printf "postgresql://%s@%s:5432/%s" .Values.postgres.login (include "fashionistar.object" (list . "postgres")) .Values.postgres.database -}}
DATABASE_URL: {{ $dsn }}
DATABASE_DIRECT_URL: {{ $dsn }}
{{- end -}}

{{- define "fashionistar.settings" -}}
{{- $web := include "fashionistar.object" (list . "web") -}}
{{- $hosts := concat .Values.app.allowedHosts .Values.ingress.hosts (list $web (printf "%s.%s" $web .Release.Namespace) (printf "%s.%s.svc" $web .Release.Namespace)) -}}
{{ include "fashionistar.databaseSettings" . }}
QUEUE_URL: valkey://app@{{ include "fashionistar.object" (list . "valkey-queue") }}:6379
CACHE_URL: valkey://app@{{ include "fashionistar.object" (list . "valkey-queue") }}:6379
{{- if not .Values.app.trustedProxies }}
RATE_LIMIT_CHECKOUT: "0"
{{- end }}
EMAIL_URL: {{ .Values.email.url | default (printf "smtp://%s:1025" (include "fashionistar.object" (list . "fakes"))) | quote }}
EMAIL_FROM: {{ .Values.email.from | quote }}
ALLOWED_HOSTS: {{ $hosts | uniq | join "," | quote }}
PUBLIC_BASE_URL: {{ include "fashionistar.publicBaseUrl" . | quote }}
TRUSTED_PROXIES: {{ join "," .Values.app.trustedProxies | quote }}
LOG_LEVEL: {{ .Values.app.logLevel }}
APP_VERSION: {{ include "fashionistar.version" . | quote }}
OTEL_HOT_RATIO: {{ .Values.telemetry.hotRatio | quote }}
{{- end -}}

{{- define "fashionistar.publicBaseUrl" -}}
{{- .Values.app.publicBaseUrl | default (printf "%s://%s" (ternary "https" "http" (gt (len .Values.ingress.tls) 0)) (first .Values.ingress.hosts)) -}}
{{- end -}}

{{/* Annotation of long-running pods: they roll when a setting or a password of this chart changes. */}}
{{- define "fashionistar.checksums" -}}
checksum/settings: {{ include "fashionistar.settings" . | sha256sum | trunc 16 }}
{{- end -}}

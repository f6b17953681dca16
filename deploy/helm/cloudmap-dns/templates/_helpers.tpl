{{/* The name of most objects: the release's. */}}
{{- define "cloudmap-dns.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "cloudmap-dns.selector" -}}
app.kubernetes.io/name: cloudmap-dns
app.kubernetes.io/instance: {{ include "cloudmap-dns.name" . }}
{{- end -}}

{{- define "cloudmap-dns.labels" -}}
{{ include "cloudmap-dns.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "cloudmap-dns.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "cloudmap-dns.name" .) -}}
{{- end -}}

{{- define "cloudmap-dns.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The address that takes connections of every family asked for: Linux takes IPv4 on [::] too. */}}
{{- define "cloudmap-dns.any" -}}
{{- if has "IPv6" .Values.ipFamilies -}}[::]{{- else -}}0.0.0.0{{- end -}}
{{- end -}}

{{/* DNS has a socket for each family. */}}
{{- define "cloudmap-dns.listen" -}}
{{- $addresses := list -}}
{{- range .Values.ipFamilies -}}
{{- $addresses = append $addresses (ternary "[::]:53" "0.0.0.0:53" (eq . "IPv6")) -}}
{{- end -}}
{{- join "," $addresses -}}
{{- end -}}

{{/* A setting's value as the server reads it: lists with commas, numbers in full. */}}
{{- define "cloudmap-dns.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "float64" . -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* What can't be told from one value alone. */}}
{{- define "cloudmap-dns.check" -}}
{{- if and (ne .Values.store "kubernetes") (gt (int .Values.replicas) 1) -}}
{{- fail (printf "replicas: %d: the store %q is of one replica; set store to kubernetes, or replicas to 1" (int .Values.replicas) .Values.store) -}}
{{- end -}}
{{- end -}}

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
{{- include "cloudmap-dns.listenAt" (dict "families" .Values.ipFamilies "port" 53) -}}
{{- end -}}

{{- define "cloudmap-dns.listenAt" -}}
{{- $addresses := list -}}
{{- $port := int .port -}}
{{- range .families -}}
{{- $addresses = append $addresses (printf "%s:%d" (ternary "[::]" "0.0.0.0" (eq . "IPv6")) $port) -}}
{{- end -}}
{{- join "," $addresses -}}
{{- end -}}

{{/* The encrypted transports that are on, each with its port, its protocol, and the flag that has its addresses. */}}
{{- define "cloudmap-dns.encrypted" -}}
{{- $transports := list -}}
{{- with .Values.encryptedDns -}}
{{- if .secretName -}}
{{- if .tls -}}{{- $transports = append $transports (dict "name" "dns-tls" "flag" "DOT" "port" 853 "protocol" "TCP") -}}{{- end -}}
{{- if .https -}}{{- $transports = append $transports (dict "name" "dns-https" "flag" "DOH" "port" 443 "protocol" "TCP") -}}{{- end -}}
{{- if .quic -}}{{- $transports = append $transports (dict "name" "dns-quic" "flag" "DOQ" "port" 853 "protocol" "UDP") -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $transports -}}
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

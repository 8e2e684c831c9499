{{- /* Labels of each object. Call with (dict "root" $ "component" "operator" | "proxy"). */ -}}
{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* The constant part of the labels, because selectors are immutable. */ -}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Call with (dict "root" $ "image" .Values.proxy.image). */ -}}
{{- define "sluice.image" -}}
{{- $reference := .image.repository -}}
{{- with .image.digest }}{{ $reference }}@{{ . }}{{ else }}{{ $reference }}:{{ default .root.Chart.AppVersion .image.tag }}{{ end -}}
{{- end }}

{{- /* The restricted Pod Security Standard, for the Pod and for each container. */ -}}
{{- define "sluice.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "sluice.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* The probes of both programs: the admin endpoint of sluice-daemon. */ -}}
{{- define "sluice.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- /* Scheduling settings of a Pod. Call with the operator's or the proxy's values. */ -}}
{{- define "sluice.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The Secret with the certificate of the configuration stream: tls.crt, tls.key, ca.crt. */ -}}
{{- define "sluice.streamSecret" -}}
{{- default "sluice-stream-tls" .Values.stream.existingSecret -}}
{{- end }}

{{- /* The names of all fleets, as a YAML list: that of `proxy` first. */ -}}
{{- define "sluice.fleets" -}}
{{- if hasKey .Values.fleets .Values.proxy.fleet }}
{{- fail (printf "fleets.%s: this is the fleet of `proxy`; set its values there" .Values.proxy.fleet) }}
{{- end }}
{{- prepend (keys .Values.fleets | sortAlpha) .Values.proxy.fleet | toYaml }}
{{- end }}

{{- /* Flags for the limits of a proxy. Call with `limits` of its values; numbers from a file are floating-point. */ -}}
{{- define "sluice.limits" -}}
{{- $flags := dict "connections" "max-connections" "connectionsPerSource" "max-connections-per-source"
    "streamsPerConnection" "max-streams-per-connection" "requests" "max-requests"
    "requestsPerUpstream" "max-requests-per-upstream" "bufferMemory" "buffer-memory" "maxStreamAge" "max-stream-age" }}
{{- range $value, $flag := $flags }}
{{- $number := get $ $value }}
{{- if not (kindIs "invalid" $number) }}{{ if ne (toString $number) "" }}
- --{{ $flag }}={{ int64 $number }}
{{- end }}{{ end }}
{{- end }}
{{- end }}

{{- /* `models` and `envoy` as the pod's `trireme envoy` reads them: open to the pod's network, admin not. */ -}}
{{- define "trireme.envoyValues" -}}
{{- $envoy := deepCopy .Values.envoy }}
{{- $_ := set $envoy "listen" (merge (dict "address" "0.0.0.0") $envoy.listen) }}
{{- $_ := set $envoy "metrics" (merge (dict "address" "0.0.0.0") $envoy.metrics) }}
{{- $_ := set $envoy "service" (printf "%s-{model}" .Release.Name) }}
{{- $models := dict }}
{{- range $name, $entry := .Values.models }}
  {{- $_ := set $models $name (pick $entry "serves" "idempotent" "target" "replicas" "maxRequests" "perTryTimeoutSeconds" "default") }}
{{- end }}
{{- /* JSON is YAML, and writes 1000000 and not 1e+06. */}}
{{- toPrettyJson (dict "envoy" $envoy "models" $models) }}
{{- end }}

{{- /* `models` and `envoy` as the pod's `trireme envoy` reads them: open to the pod's network, admin not. */ -}}
{{- define "trireme.envoyValues" -}}
{{- $envoy := deepCopy .Values.envoy }}
{{- $_ := set $envoy "listen" (merge (dict "address" "0.0.0.0") $envoy.listen) }}
{{- $_ := set $envoy "metrics" (merge (dict "address" "0.0.0.0") $envoy.metrics) }}
{{- $_ := set $envoy "service" (printf "%s-{model}" .Release.Name) }}
{{- with $envoy.regionListen }}
  {{- $_ := set $envoy "regionListen" (dict "address" "0.0.0.0" "port" .port) }}
{{- end }}
{{- if include "trireme.hasFailover" . }}
  {{- $_ := set $envoy "controller" (dict "address" "127.0.0.1" "port" .Values.balancer.regions.port) }}
{{- end }}
{{- with .Values.secrets.region.secret }}
  {{- $_ := set $envoy "regionTls" (dict "certificate" "/etc/trireme-region/tls.crt" "key" "/etc/trireme-region/tls.key" "authority" "/etc/trireme-region/ca.crt") }}
{{- end }}
{{- $models := dict }}
{{- range $name, $entry := .Values.models }}
  {{- $_ := set $models $name (pick $entry "serves" "idempotent" "target" "replicas" "maxRequests" "failoverMaxRequests" "failoverBatchRequests" "perTryTimeoutSeconds" "default") }}
{{- end }}
{{- /* JSON is YAML, and writes 1000000 and not 1e+06. */}}
{{- $values := dict "envoy" $envoy "models" $models }}
{{- with .Values.regions }}{{ $_ := set $values "regions" . }}{{ end }}
{{- toPrettyJson $values }}
{{- end }}

{{- /* Whether another region is asked when this one cannot serve: then a controller stands beside Envoy. */ -}}
{{- define "trireme.hasFailover" -}}
{{- if gt (len .Values.regions) 1 }}true{{ end }}
{{- end }}

{{- /* Where the certificates of regions lie, for whoever calls another one or is called. */ -}}
{{- define "trireme.regionMount" -}}
{{- if .Values.secrets.region.secret -}}
- {name: region, mountPath: /etc/trireme-region, readOnly: true}
{{- end }}
{{- end }}


{{- /* A pattern of the names that Envoy's metrics have for an entry's calls: near ones, and far ones too where there
       are other regions, for that is work which this one could not take. Called with root and name. */ -}}
{{- define "trireme.clusters" -}}
{{- if include "trireme.hasFailover" .root }}{{ printf "%s_(near|far|far_batch)" .name }}{{ else }}{{ .name }}{{ end }}
{{- end }}

{{- /* The same of near replicas alone; entry is the name of one, or a pattern of all. */ -}}
{{- define "trireme.nearCluster" -}}
{{- if include "trireme.hasFailover" .root }}{{ printf "(%s)_near" .name }}{{ else }}{{ .name }}{{ end }}
{{- end }}

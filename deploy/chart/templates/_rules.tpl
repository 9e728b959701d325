{{- /* Replicas of work: what one Deployment is asked to do, in seconds of work each second, and what waits. Called with
       namespace, deployment, models (a pattern), scale, and isMeasuredLate: replicas tell no backlog before they have
       measured their rate. */ -}}
{{- define "trireme.workRule" -}}
{{- $series := printf "{namespace=%q,model=~%q}" .namespace .models -}}
{{- $offered := printf "sum by (model) (rate(trireme_offered_work_seconds_total%s[%ds]))" $series (int .scale.rateSeconds) -}}
{{- $bulk := printf "sum by (model) (rate(trireme_bulk_work_seconds_total%s[%ds]))" $series (int .scale.rateSeconds) -}}
- record: trireme:wanted_replicas
  labels: {namespace: {{ .namespace | quote }}, deployment: {{ .deployment | quote }}}
  # Refused requests are offered work too; the bulk of ingestion workers is not: they send more whenever a server is
  # free. The rate is over a minute: the bare one costs half as much again.
  expr: |
    ({{ $offered }} - ({{ $bulk }} or 0 * {{ $offered }})) / {{ .scale.utilization }}
{{- if .isMeasuredLate }}
    + (sum by (model) (trireme_backlog_seconds{{ $series }}) / {{ .scale.drainSeconds }} or 0 * {{ $offered }})
{{- else }}
    + sum by (model) (trireme_backlog_seconds{{ $series }}) / {{ .scale.drainSeconds }}
{{- end }}
{{- if .scale.creditCold }}
      # What waits is in part for replicas that are loading models.
      * on () group_left () avg(trireme_replica_ready{ {{- printf "namespace=%q,pod=~%q" .namespace (printf "%s-[a-z0-9]+-[a-z0-9]+" .deployment) -}} })
{{- end }}
{{- end }}

{{- /* The models of an entry as a regular expression: a dot stands for itself. */ -}}
{{- define "trireme.modelPattern" -}}
{{- without .serves "ingest" | join "|" | replace "." "\\." }}
{{- end }}

{{- /* The gateway's routes whose calls go to a model under another name, as JSON: those of gateway.toml, by the first
       model of ours in their chain. An answer of rag is a call of llm too, and of the encoders, as a search is; search
       itself, an ensemble, has no metrics of its own. Called with root and model. */ -}}
{{- define "trireme.routesOf" -}}
{{- $file := fromToml .root.Values.gateway.toml -}}
{{- $routes := list -}}
{{- $asked := list .model -}}
{{- if eq .model "llm" }}{{ $asked = list .model "rag" }}{{ end -}}
{{- if has .model (list "embedding" "reranker") }}{{ $asked = list .model "rag" "search" }}{{ end -}}
{{- range $route, $row := $file.models | default dict }}
  {{- $ours := "" }}
  {{- $chain := $row.chain | default list }}
  {{- range $row.steps }}{{ $chain = concat $chain (ternary (list .target) (.chain | default list) (hasKey . "target")) }}{{ end }}
  {{- range $chain }}
    {{- if not $ours }}{{ if hasPrefix "local:" . }}{{ $ours = trimPrefix "local:" . }}{{ else if not (contains ":" .) }}{{ $ours = . }}{{ end }}{{ end }}
  {{- end }}
  {{- if has $ours $asked }}{{ $routes = append $routes $route }}{{ end }}
{{- end }}
{{- toJson (without (concat $asked $routes | uniq | sortAlpha) .model) -}}
{{- end }}

{{- /* What the gateway refuses never reaches the servers, and so is not in what they were offered. It counts as many
       replicas as the work of a mean request that they took: the gateway's own trireme_gateway_shed_work_seconds_total
       has seconds of calls, of which a replica runs many at once. Called with root, namespace, deployment, serves and
       scale. Without such metrics, and while nothing is refused, these rules make no series. */ -}}
{{- define "trireme.shedRules" -}}
{{- $window := printf "[%ds]" (int .scale.rateSeconds) -}}
{{- /* Of requests that no ingestion worker sent: an encoder counts them when they come, others when they run. */ -}}
{{- $work := "(sum by (model) (rate(trireme_offered_work_seconds_total{SERIES}WINDOW)) - (sum by (model) (rate(trireme_bulk_work_seconds_total{SERIES}WINDOW)) or 0 * sum by (model) (rate(trireme_offered_work_seconds_total{SERIES}WINDOW))))" -}}
{{- $refused := "(sum by (model) (rate(trireme_rejected_work_seconds_total{SERIES}WINDOW)) or 0 * sum by (model) (rate(trireme_offered_work_seconds_total{SERIES}WINDOW)))" -}}
{{- $mean := printf "%s / (sum by (model) (rate(trireme_interactive_requests_total{SERIES}WINDOW)) > 0)\nor (%s - %s) / (sum by (model) (rate(trireme_queue_waits_total{SERIES}WINDOW)) > 0)" $work $work $refused | replace "WINDOW" $window -}}
{{- $series := printf "namespace=%q,model=~%q" .namespace (include "trireme.modelPattern" .) -}}
- record: trireme:wanted_replicas
  labels: {namespace: {{ .namespace | quote }}, deployment: {{ .deployment | quote }}, refused: gateway}
  # Requests that the gateway refused, and the work of a mean one.
  expr: |
    sum by (model) (rate(trireme_gateway_shed_total{ {{- $series -}} }{{ $window }}))
    * ({{ $mean | replace "SERIES" $series | nindent 4 | trim }}) / {{ .scale.utilization }}
{{- range $model := without .serves "ingest" }}
{{- $routes := include "trireme.routesOf" (dict "root" $.root "model" $model) | fromJsonArray }}
{{- if $routes }}
{{- $series := printf "namespace=%q,model=%q" $.namespace $model }}
{{- $pattern := $routes | join "|" | replace "." "\\." }}
- record: trireme:wanted_replicas
  labels: {namespace: {{ $.namespace | quote }}, deployment: {{ $.deployment | quote }}, model: {{ $model | quote }}, refused: {{ $pattern | quote }}}
  expr: |
    sum(rate(trireme_gateway_shed_total{namespace={{ $.namespace | quote }},model=~{{ $pattern | quote }}}{{ $window }}))
    * on () group_right () ({{ $mean | replace "SERIES" $series | nindent 4 | trim }}) / {{ $.scale.utilization }}
{{- end }}
{{- end }}
{{- end }}

{{- define "trireme.signalRule" -}}
- record: trireme:scale_signal
  labels: {namespace: {{ .namespace | quote }}, deployment: {{ .deployment | quote }}}
  expr: |
    {{- .expr | nindent 4 }}
{{- end }}

{{- define "trireme.wantedSignal" -}}
{{- printf "sum(trireme:wanted_replicas{namespace=%q,deployment=%q})" .namespace .deployment }}
{{- if gt (int .scale.spare) 0 }} + {{ .scale.spare }}{{ end }}
{{- end }}

{{- define "trireme.scalingRules" -}}
{{- $namespace := .Release.Namespace }}
{{- range $name, $entry := .Values.models }}
{{- $scale := include "trireme.scale" (dict "root" $ "scale" $entry.scale) | fromYaml }}
{{- $on := get $scale "on" | default (ternary "work" "requests" (eq $entry.target "gpu")) }}
{{- $deployment := printf "%s-%s" $.Release.Name $name }}
{{- $cluster := printf "namespace=%q,envoy_cluster_name=~%q" $namespace (include "trireme.clusters" (dict "root" $ "name" $name)) }}
{{ include "trireme.workRule" (dict "namespace" $namespace "deployment" $deployment "models" (include "trireme.modelPattern" $entry) "scale" $scale) }}
{{- if eq $on "work" }}
{{ include "trireme.shedRules" (dict "root" $ "namespace" $namespace "deployment" $deployment "serves" $entry.serves "scale" $scale) }}
{{- end }}
{{- $signal := include "trireme.wantedSignal" (dict "namespace" $namespace "deployment" $deployment "scale" $scale) }}
{{- if eq $on "requests" }}
{{- /* Refused by Envoy and by the gateway: requests as well. */}}
{{- $routes := list }}
{{- range without $entry.serves "ingest" }}{{ $routes = concat $routes (list .) (include "trireme.routesOf" (dict "root" $ "model" .) | fromJsonArray) | uniq }}{{ end }}
{{- $shed := printf "namespace=%q,model=~%q" $namespace ($routes | sortAlpha | join "|" | replace "." "\\.") }}
{{- $signal = printf "sum(rate(envoy_cluster_upstream_rq_total{%s}[1m]))\n+ sum(rate(envoy_cluster_upstream_rq_pending_overflow{%s}[1m]))\n+ (sum(rate(trireme_gateway_shed_total{%s}[1m])) or 0 * sum(rate(envoy_cluster_upstream_rq_total{%s}[1m])))" $cluster $cluster $shed $cluster }}
{{- else if eq $on "p95" }}
{{- /* Without requests there is no quantile: 0 then, as long as Envoy says so; nothing where it does not. Before the
       first request Envoy has no histogram, but its counters. */}}
{{- $signal = printf "histogram_quantile(0.95, sum by (le) (rate(envoy_cluster_upstream_rq_time_bucket{%s}[1m]))) / 1000 >= 0\nor sum(rate(envoy_cluster_upstream_rq_total{%s}[1m])) == 0" $cluster $cluster }}
{{- end }}
{{ include "trireme.signalRule" (dict "namespace" $namespace "deployment" $deployment "expr" ($signal | replace "[1m]" (printf "[%ds]" (int $scale.rateSeconds)))) }}
{{- end }}
{{- $deployment := printf "%s-gateway" .Release.Name }}
{{- $window := printf "[%ds]" (int (include "trireme.scale" (dict "root" . "scale" .Values.gateway.scale) | fromYaml).rateSeconds) }}
{{- $asked := printf "namespace=%q,endpoint!~%q" $namespace "healthz|readyz|metrics" }}
{{- $on := get .Values.gateway.scale "on" }}
{{- /* Before its first request a gateway counts none, but it always tells how old its keys are. */}}
{{- $alive := printf "or 0 * max(trireme_gateway_keys_age_seconds{namespace=%q})" $namespace }}
{{- if eq $on "requests" }}
{{ include "trireme.signalRule" (dict "namespace" $namespace "deployment" $deployment "expr" (printf "sum(rate(trireme_gateway_requests_total{%s}[1m]))\n%s" $asked $alive | replace "[1m]" $window)) }}
{{- else if eq $on "p95" }}
{{ include "trireme.signalRule" (dict "namespace" $namespace "deployment" $deployment "expr" (printf "histogram_quantile(0.95, sum by (le) (rate(trireme_gateway_request_seconds_bucket{%s}[1m]))) >= 0\n%s" $asked $alive | replace "[1m]" $window)) }}
{{- end }}
{{- /* Each worker tells its share of the queue. */}}
{{- $worker := dict "namespace" $namespace "deployment" (printf "%s-worker" .Release.Name) "models" "ingest" "isMeasuredLate" true "scale" (include "trireme.scale" (dict "root" . "scale" .Values.worker.scale) | fromYaml) }}
{{ include "trireme.workRule" $worker }}
{{ include "trireme.signalRule" (merge (dict "expr" (include "trireme.wantedSignal" $worker)) $worker) }}
{{- end }}

{{- define "trireme.alert" -}}
- alert: {{ .name }}
  expr: |
    {{- .expr | nindent 4 }}
  for: {{ .for }}
  labels: {severity: {{ .severity }}, namespace: {{ .root.Release.Namespace | quote }}{{ with .deployment }}, deployment: {{ . | quote }}{{ end }}}
  annotations:
    summary: {{ .summary | quote }}
    runbook_url: {{ printf "%s#%s" .root.Values.monitoring.runbook .anchor | quote }}
{{- end }}

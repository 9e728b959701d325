{{- define "trireme.behavior" -}}
{{- range $direction, $allowed := dict "scaleUp" .up "scaleDown" .down }}
{{ $direction }}:
  stabilizationWindowSeconds: {{ $allowed.waitSeconds }}
  selectPolicy: Max
  policies:
{{- if $allowed.pods }}
    - {type: Pods, value: {{ $allowed.pods }}, periodSeconds: {{ $allowed.periodSeconds }}}
{{- end }}
{{- if $allowed.percent }}
    - {type: Percent, value: {{ $allowed.percent }}, periodSeconds: {{ $allowed.periodSeconds }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* The autoscaler of one Deployment. Called with root, part, name, replicas and scale (over the defaults). */ -}}
{{- define "trireme.autoscaler" -}}
{{- $on := get .scale "on" }}
{{- /* Latency as Value: as an average over replicas it would ask for p95 / target replicas, whatever runs now. */ -}}
{{- $type := ternary "Value" "AverageValue" (eq $on "p95") }}
{{- $target := ternary 1 .scale.target (eq $on "work") }}
{{- range $direction := list "up" "down" }}
{{- $allowed := get $.scale $direction }}
{{- if not (or $allowed.pods $allowed.percent) }}
{{- fail (printf "%s: scale.%s allows neither pods nor percent: nothing would ever change" $.name $direction) }}
{{- end }}
{{- end }}
{{- if eq $on "cpu" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  labels: {{- include "trireme.labels" .part | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ .replicas.min }}
  maxReplicas: {{ .replicas.max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .scale.target }}}
  behavior: {{- include "trireme.behavior" .scale | trim | nindent 4 }}
{{- else if eq .root.Values.scaling.autoscaler "hpa" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  labels: {{- include "trireme.labels" .part | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ .replicas.min }}
  maxReplicas: {{ .replicas.max }}
  metrics:
    # What deploy/prometheus/adapter.yaml makes of trireme:scale_signal. Lost, it changes nothing.
    - type: External
      external:
        metric:
          name: trireme_scale_signal
          selector: {matchLabels: {deployment: {{ .name }}}}
        target:
          type: {{ $type }}
          {{ ternary "value" "averageValue" (eq $type "Value") }}: {{ $target | toString | quote }}
  behavior: {{- include "trireme.behavior" .scale | trim | nindent 4 }}
{{- else }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels: {{- include "trireme.labels" .part | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ .name }}}
  # From 1 on KEDA only feeds the HPA: pollingInterval and cooldownPeriod would do nothing.
  minReplicaCount: {{ .replicas.min }}
  maxReplicaCount: {{ .replicas.max }}
  # Without Prometheus nothing is scaled in.
  fallback: {failureThreshold: 3, replicas: {{ .replicas.min }}, behavior: currentReplicasIfHigher}
  advanced:
    horizontalPodAutoscalerConfig:
      name: {{ .name }}
      behavior: {{- include "trireme.behavior" .scale | trim | nindent 8 }}
  triggers:
    - type: prometheus
      metricType: {{ $type }}
      metadata:
        serverAddress: {{ .root.Values.scaling.prometheus | quote }}
        query: trireme:scale_signal{namespace={{ .root.Release.Namespace | quote }},deployment={{ .name | quote }}}
        threshold: {{ $target | toString | quote }}
        # A signal that is lost is not a signal of 0.
        ignoreNullValues: "false"
{{- end }}
{{- end }}

"""What autoscalers of Kubernetes make of a load: their arithmetic, replayed over traces and a model of replicas."""

module github.com/posthorn/webhook/otelwebhook

go 1.25.0

require (
	github.com/google/uuid v1.6.0
	github.com/posthorn/webhook v0.0.0
	github.com/stretchr/testify v1.12.1
	go.opentelemetry.io/otel v1.46.0
	go.opentelemetry.io/otel/metric v1.46.0
	go.opentelemetry.io/otel/sdk v1.46.0
	go.opentelemetry.io/otel/sdk/metric v1.46.0
	go.opentelemetry.io/otel/trace v1.46.0
)

replace github.com/posthorn/webhook => ../

module github.com/posthorn/webhook

go 1.25

require (
	github.com/cenkalti/backoff/v4 v4.3.0
	github.com/google/uuid v1.6.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/mock v0.6.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

module github.com/posthorn/webhook/examples

go 1.25

require github.com/posthorn/webhook v0.0.0

replace github.com/posthorn/webhook => ../

# WEBHOOK_SECRET=whsec_… SIGNATURE=<X-Pivot-Signature> sh verify.sh <body
want=$(openssl dgst -sha256 -hmac "${WEBHOOK_SECRET:?}" | sed 's/^.*= *//')
if [ "${SIGNATURE:?}" = "$want" ]; then echo valid; else echo invalid; exit 1; fi

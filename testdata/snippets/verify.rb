require "openssl"

TOLERANCE = 5 * 60 # seconds

# verify says whether a request is genuine. Headers are whatever has [] for names in
# lower case: a Hash, request.headers of Rails, a request of WEBrick. Body is the
# String that was received, before anything parses it.
def verify(secret, headers, body, now = Time.now)
  verify_pivot(secret, headers, body) && verify_standard(secret, headers, body, now)
end

# X-Pivot-Signature: the key is the secret's text, "whsec_" included.
def verify_pivot(secret, headers, body)
  equal(headers["x-pivot-signature"], mac(secret, body).unpack1("H*"))
end

# Standard Webhooks: the key is what follows "whsec_", decoded.
def verify_standard(secret, headers, body, now = Time.now)
  id, timestamp = headers["webhook-id"].to_s.b, headers["webhook-timestamp"].to_s.b
  return false unless id.match?(/\A[^.]+\z/n) && timestamp.match?(/\A[0-9]{1,12}\z/n)
  return false if (now.to_i - timestamp.to_i).abs > TOLERANCE
  key = secret.delete_prefix("whsec_").unpack1("m")
  want = "v1," + [mac(key, "#{id}.#{timestamp}.".b + body.b)].pack("m0")
  headers["webhook-signature"].to_s.b.split(" ").any? { |given| equal(given, want) }
end

def mac(key, message)
  raise ArgumentError, "the secret is empty" if key.empty?
  OpenSSL::HMAC.digest("SHA256", key, message)
end

def equal(given, want)
  OpenSSL.secure_compare(given.to_s.b, want)
end

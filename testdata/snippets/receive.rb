require "json"
require "webrick" # with Ruby 3 and later a gem of its own
require_relative "verify"

# Several, separated by spaces, while one webhook takes over from another.
SECRETS = ENV.fetch("WEBHOOK_SECRET").split
SEEN = {} # yours: a table with a unique key, written together with the work
LOCK = Mutex.new
$stdout.sync = true

server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: ENV.fetch("PORT").to_i, AccessLog: [])
server.mount_proc("/") do |request, response|
  body = request.body.to_s # as it came
  unless SECRETS.any? { |secret| verify(secret, request, body) }
    response.status = 401
    next
  end

  id = request["webhook-id"] # the same for every attempt
  LOCK.synchronize do
    unless SEEN[id]
      event = JSON.parse(body)
      puts "#{id} #{event["event_type"]} #{event["data"]}" # the work; what takes long goes to a queue
      SEEN[id] = true # after the work: what failed has to come again
    end
  end
  response.status = 204 # any 2xx, within 15 s
end
puts "listening on port #{server.config[:Port]}"
server.start

# Calls functions of verify.rb. Standard input has one call a line, in JSON;
# standard output what each came to: accepted, refused or error.
require "json"
require_relative "verify"

$stdin.each_line do |line|
  c = JSON.parse(line)
  now = c["function"] == "verify_pivot" || !c["now"] ? [] : [c["now"]]
  begin
    said = send(c["function"], c["secret"], c["headers"], c["body"].unpack1("m"), *now)
    puts said == true ? "accepted" : "refused"
  rescue StandardError
    puts "error"
  end
end

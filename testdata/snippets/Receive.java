import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.Executors;

final class Receive {
    static final int MAX_BODY = 1 << 20; // bytes

    // Several, separated by spaces, while one webhook takes over from another.
    static final String[] SECRETS = System.getenv("WEBHOOK_SECRET").split(" ");

    // Yours: a table with a unique key, written together with the work.
    static final Set<String> SEEN = new HashSet<>();

    public static void main(String[] args) throws IOException {
        int port = Integer.parseInt(System.getenv("PORT"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", exchange -> {
            try (exchange) {
                byte[] body = exchange.getRequestBody().readNBytes(MAX_BODY + 1); // as it came
                if (body.length > MAX_BODY) {
                    exchange.sendResponseHeaders(413, -1);
                    return;
                }
                Instant now = Instant.now();
                if (Arrays.stream(SECRETS)
                        .noneMatch(s -> Verify.verify(s, exchange.getRequestHeaders()::getFirst, body, now))) {
                    exchange.sendResponseHeaders(401, -1);
                    return;
                }
                once(exchange.getRequestHeaders().getFirst("webhook-id"), body);
                exchange.sendResponseHeaders(204, -1); // any 2xx, within 15 s
            }
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
        System.out.println("listening on port " + server.getAddress().getPort());
    }

    // The id is the same for every attempt.
    static synchronized void once(String id, byte[] body) {
        if (SEEN.contains(id)) {
            return;
        }
        System.out.println(id + " " + new String(body)); // the work; what takes long goes to a queue
        SEEN.add(id); // after the work: what failed has to come again
    }
}

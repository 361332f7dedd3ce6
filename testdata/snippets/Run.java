import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;

/**
 * Calls functions of Verify.java. Standard input has one call a line: function, secret, body, seconds
 * (0: by the clock), and names and values of headers, each in base64, separated by spaces. Standard
 * output has what each came to: accepted, refused or error.
 */
final class Run {
    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            byte[] body = decoded(words[2]);
            long seconds = Long.parseLong(text(words[3]));
            Instant now = seconds == 0 ? Instant.now() : Instant.ofEpochSecond(seconds);
            Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
            for (int i = 4; i < words.length; i += 2) {
                headers.put(text(words[i]), text(words[i + 1]));
            }
            try {
                boolean said = switch (text(words[0])) {
                    case "verifyPivot" -> Verify.verifyPivot(text(words[1]), headers::get, body);
                    case "verifyStandard" -> Verify.verifyStandard(text(words[1]), headers::get, body, now);
                    default -> Verify.verify(text(words[1]), headers::get, body, now);
                };
                System.out.println(said ? "accepted" : "refused");
            } catch (RuntimeException e) {
                System.out.println("error");
            }
        }
    }

    private static String text(String word) {
        return new String(decoded(word), StandardCharsets.UTF_8);
    }

    // A dash stands before the base64, so that a word is never empty.
    private static byte[] decoded(String word) {
        return Base64.getDecoder().decode(word.substring(1));
    }
}

import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import java.util.HexFormat;
import java.util.function.UnaryOperator;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

final class Verify {
    static final long TOLERANCE = 5 * 60; // seconds

    /**
     * Says whether a request is genuine. Header returns a header by its name in any case, or null:
     * request::getHeader of a servlet. Body is the bytes that were received, before anything parses
     * them.
     */
    static boolean verify(String secret, UnaryOperator<String> header, byte[] body, Instant now) {
        return verifyPivot(secret, header, body) && verifyStandard(secret, header, body, now);
    }

    /** X-Pivot-Signature: the key is the secret's text, "whsec_" included. */
    static boolean verifyPivot(String secret, UnaryOperator<String> header, byte[] body) {
        String want = HexFormat.of().formatHex(mac(secret.getBytes(UTF_8), body));
        return equal(text(header, "X-Pivot-Signature"), want);
    }

    /** Standard Webhooks: the key is what follows "whsec_", decoded. */
    static boolean verifyStandard(String secret, UnaryOperator<String> header, byte[] body, Instant now) {
        String id = text(header, "webhook-id");
        String timestamp = text(header, "webhook-timestamp");
        if (!id.matches("[^.]+") || !timestamp.matches("[0-9]{1,12}")) {
            return false;
        }
        if (Math.abs(now.getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE) {
            return false;
        }
        byte[] key = Base64.getDecoder().decode(secret.replaceFirst("^whsec_", ""));
        byte[] mac = mac(key, (id + "." + timestamp + ".").getBytes(UTF_8), body);
        String want = "v1," + Base64.getEncoder().encodeToString(mac);
        boolean valid = false;
        for (String given : text(header, "webhook-signature").split(" ")) {
            valid |= equal(given, want);
        }
        return valid;
    }

    private static byte[] mac(byte[] key, byte[]... parts) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256")); // throws if the key is empty
            for (byte[] part : parts) {
                mac.update(part);
            }
            return mac.doFinal();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    private static boolean equal(String given, String want) {
        return MessageDigest.isEqual(given.getBytes(UTF_8), want.getBytes(UTF_8));
    }

    private static String text(UnaryOperator<String> header, String name) {
        String value = header.apply(name);
        return value == null ? "" : value;
    }
}

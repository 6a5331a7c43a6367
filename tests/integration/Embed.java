import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Posts a JSON body with the JDK's default client, which offers to go on in HTTP/2 (h2c). */
public class Embed {
    public static void main(String[] arguments) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofString(arguments[1]))
                .build();
        HttpClient client = HttpClient.newHttpClient();
        for (int times = 0; times < 2; times++) {  // the second goes over the same connection
            var response = client.send(request, BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}

package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Comparator;
import java.util.PriorityQueue;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The same job on Kafka Streams, by the quickest way that was found: open groups in a persistent store behind a cache, deadlines in
 * a heap in memory that is rebuilt when a task starts.
 *
 * <p>A group has one heap entry. Its deadline slides with every add, so an entry that comes up early is put back; keeping deadlines
 * in an ordered store instead makes every sweep walk over its own tombstones. What this peer does not do: keep closed groups, tell
 * copies of an add from new ones, or judge time by the log. It is asked for less than the project does.
 *
 * <p>Arguments: brokers, commands topic, fires topic, application id, guarantee, threads, state directory.
 */
public final class FanIn {
  private static final String STORE = "groups";
  private static final ObjectMapper JSON = new ObjectMapper();

  private record Due(long atMs, String group) {}

  private static final class Barrier implements Processor<String, byte[], String, byte[]> {
    private final PriorityQueue<Due> dues = new PriorityQueue<>(Comparator.comparingLong(Due::atMs));
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> open;

    @Override
    public void init(ProcessorContext<String, byte[]> processorContext) {
      context = processorContext;
      open = context.getStateStore(STORE);
      try (var rows = open.all()) {
        rows.forEachRemaining(row -> dues.add(new Due(parse(row.value).get("deadline").asLong(), row.key)));
      }
      context.schedule(Duration.ofMillis(100), PunctuationType.WALL_CLOCK_TIME, this::timeOut);
    }

    @Override
    public void process(Record<String, byte[]> command) {
      JsonNode body = parse(command.value());
      switch (body.path("type").asText()) {
        case "add" -> add(command.key(), body, command.timestamp());
        case "remove" -> open.delete(command.key());
        default -> { }
      }
    }

    private void add(String key, JsonNode add, long nowMs) {
      byte[] known = open.get(key);
      ObjectNode group = known == null ? JSON.createObjectNode() : (ObjectNode) parse(known);
      long deadline = nowMs + (long) (add.get("wait_time_in_seconds").asDouble() * 1000);
      if (known == null) {
        group.putArray("participants");
        dues.add(new Due(deadline, key));
      }
      join((ArrayNode) group.get("participants"), add.get("participant_key").asText());
      group.put("deadline", deadline);
      group.set("callback", add.get("execute_after_waiting"));
      group.set("params", add.path("execute_after_waiting_params"));
      if (group.get("participants").size() >= add.get("number_of_participants_in_group").asInt()) {
        open.delete(key);
        fire(key, group, "complete", nowMs);
      } else {
        open.put(key, bytes(group));
      }
    }

    private static void join(ArrayNode participants, String participant) {
      for (JsonNode one : participants) {
        if (one.textValue().equals(participant)) {
          return;
        }
      }
      participants.add(participant);
    }

    private void timeOut(long nowMs) {
      while (!dues.isEmpty() && dues.peek().atMs() <= nowMs) {
        String key = dues.poll().group();
        byte[] known = open.get(key);
        if (known == null) {
          continue;
        }
        ObjectNode group = (ObjectNode) parse(known);
        long deadline = group.get("deadline").asLong();
        if (deadline > nowMs) {
          dues.add(new Due(deadline, key));
        } else {
          open.delete(key);
          fire(key, group, "timeout", nowMs);
        }
      }
    }

    private void fire(String key, ObjectNode group, String reason, long atMs) {
      group.put("group_key", key);
      group.put("reason", reason);
      context.forward(new Record<>(key, bytes(group), atMs));
    }
  }

  private static JsonNode parse(byte[] value) {
    try {
      return JSON.readTree(value);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static byte[] bytes(JsonNode node) {
    try {
      return JSON.writeValueAsBytes(node);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static Topology topology(String commands, String fires) {
    var rows = Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray());
    return new Topology()
        .addSource("commands", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), commands)
        .addProcessor("barrier", Barrier::new, "commands")
        .addStateStore(rows.withCachingEnabled(), "barrier")
        .addSink("fires", fires, Serdes.String().serializer(), Serdes.ByteArray().serializer(), "barrier");
  }

  private static Properties settings(String[] arguments) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", arguments[0]);
    settings.put("application.id", arguments[3]);
    settings.put("processing.guarantee", arguments[4]);
    settings.put("num.stream.threads", arguments[5]);
    settings.put("state.dir", arguments[6]);
    settings.put("replication.factor", "1");
    settings.put("auto.offset.reset", "earliest");
    settings.put("producer.linger.ms", "5");
    return settings;
  }

  public static void main(String[] arguments) throws InterruptedException {
    KafkaStreams streams = new KafkaStreams(topology(arguments[1], arguments[2]), settings(arguments));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
    Thread.currentThread().join();
  }

  private FanIn() {}
}

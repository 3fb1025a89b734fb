//! The private Redis against the real redis-server.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;

async fn start(folder: &Path) -> Embedded {
    Embedded::start(folder, true).await.expect("redis-server is installed")
}

async fn kill(pid: u32) {
    let killed = Command::new("/bin/sh").args(["-c", "kill -9 \"$0\"", &pid.to_string()]).status().await;
    assert!(killed.unwrap().success());
}

async fn ask(socket: &Path, command: &str) -> String {
    let program = PathBuf::new();
    let lock = File::open("/dev/null").unwrap();
    let launch = Launch { program, folder: PathBuf::new(), socket: socket.into(), fsync: true, lock };
    launch.ask(command).await.unwrap()
}

async fn config(socket: &Path, name: &str) -> String {
    let client = redis::Client::open(redis::ConnectionAddr::Unix(socket.into())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let answer: Vec<String> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
    answer[1].clone()
}

struct Watched {
    socket: PathBuf,
    stop: CancellationToken,
    restarted: Arc<Notify>,
    task: JoinSet<()>,
}

fn watch(embedded: Embedded) -> Watched {
    let (stop, restarted) = (CancellationToken::new(), Arc::new(Notify::new()));
    let (token, notify) = (stop.clone(), Arc::clone(&restarted));
    let socket = embedded.socket().to_owned();
    let mut task = JoinSet::new();
    task.spawn(embedded.watch(token, move || notify.notify_one()));
    Watched { socket, stop, restarted, task }
}

impl Watched {
    async fn stop(mut self) {
        self.stop.cancel();
        let ended = timeout(STOP_TIMEOUT, self.task.join_next()).await.expect("it stops in time");
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_starts_with_what_the_log_needs_and_stops_for_good() {
    let data = tempfile::tempdir().unwrap();
    let embedded = start(data.path()).await;
    let socket = embedded.socket().to_owned();
    assert_eq!(socket, data.path().join("redis/redis.sock"));
    assert_eq!(fs::metadata(data.path().join("redis")).unwrap().mode() & 0o777, 0o700);
    let settings = ["appendfsync always", "maxmemory-policy noeviction", "stream-node-max-bytes 1024", "port 0"];
    for setting in settings.map(|setting| setting.split_once(' ').unwrap()) {
        assert_eq!(config(&socket, setting.0).await, setting.1, "{}", setting.0);
    }
    watch(embedded).stop().await;
    assert!(UnixStream::connect(&socket).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_was_written_survives_a_killed_redis() {
    let data = tempfile::tempdir().unwrap();
    let embedded = start(data.path()).await;
    let pid = embedded.child.id().unwrap();
    let watched = watch(embedded);
    assert_eq!(ask(&watched.socket, "SET tea green").await, "+OK");
    kill(pid).await;
    watched.restarted.notified().await;
    assert_eq!(ask(&watched.socket, "GET tea").await, "green");
    watched.stop().await;
}

#[tokio::test]
async fn a_second_burble_on_the_same_data_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path()).await;
    let refusal = Embedded::start(data.path(), true).await.unwrap_err().to_string();
    assert!(refusal.contains("another Burble uses the data folder"), "{refusal}");
    assert!(refusal.contains("DATA_DIR"), "{refusal}");
    watch(first).stop().await;
    watch(start(data.path()).await).stop().await;
}

/// As `kill -9` leaves things: the redis-server lives on, and nobody holds the data folder.
async fn orphan(data: &Path) -> Child {
    let Embedded { launch, child, .. } = start(data).await;
    assert_eq!(launch.ask("SET tea green").await.unwrap(), "+OK");
    child
}

#[tokio::test]
async fn the_redis_of_a_killed_burble_is_replaced_and_nothing_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let mut orphan = orphan(data.path()).await;
    let watched = watch(start(data.path()).await);
    let status = orphan.try_wait().unwrap().expect("the orphan ended before its successor began");
    assert!(status.success(), "it was shut down, not killed");
    assert_eq!(ask(&watched.socket, "GET tea").await, "green");
    watched.stop().await;
}

#[tokio::test]
async fn an_orphan_that_hangs_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let mut orphan = orphan(data.path()).await;
    let halt = ["-c", "kill -STOP \"$0\"", &orphan.id().unwrap().to_string()];
    assert!(Command::new("/bin/sh").args(halt).status().await.unwrap().success());
    let patience = Duration::from_millis(100);
    let watched = watch(Embedded::start_after_orphan(data.path(), true, patience).await.unwrap());
    assert!(orphan.try_wait().unwrap().is_some());
    assert_eq!(ask(&watched.socket, "GET tea").await, "green");
    watched.stop().await;
}

#[tokio::test]
async fn a_long_path_moves_the_socket_to_the_temporary_folder() {
    let data = tempfile::tempdir().unwrap();
    let embedded = start(&data.path().join("d".repeat(SOCKET_PATH_BYTES_MAX))).await;
    let socket = embedded.socket().to_owned();
    assert!(socket.starts_with(std::env::temp_dir()), "{}", socket.display());
    assert_eq!(ask(&socket, "PING").await, "+PONG");
    watch(embedded).stop().await;
    fs::remove_dir(socket.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn a_redis_that_does_not_come_up_says_why() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir_all(data.path().join("redis")).unwrap();
    fs::write(data.path().join("redis/appendonlydir"), "in the way").unwrap();
    let refusal = format!("{:#}", Embedded::start(data.path(), true).await.unwrap_err());
    assert!(refusal.contains("did not come up"), "{refusal}");
    assert!(refusal.contains("appendonlydir"), "{refusal}");
}

#[tokio::test]
async fn a_large_log_file_is_put_aside() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("redis");
    fs::create_dir_all(&folder).unwrap();
    let log = File::create(folder.join("redis.log")).unwrap();
    log.set_len(LOG_BYTES_MAX + 1).unwrap();
    watch(start(data.path()).await).stop().await;
    assert!(fs::metadata(folder.join("redis.log")).unwrap().len() < LOG_BYTES_MAX);
    assert!(folder.join("redis.log.1").exists());
}

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::*;

const THINGS: usize = 0;
const OTHERS: usize = 1;
/// Tells a child process of these tests where the state is.
const STATE: &str = "PORTOLAN_TEST_STATE";

fn specs() -> Vec<Arc<Spec>> {
    ["things", "others.example.com"].map(|name| Arc::new(spec(name, 0))).into()
}

fn open(directory: &Path) -> Store {
    Store::open(directory, specs()).unwrap()
}

fn thing(name: &str, size: usize) -> Value {
    json!({ "metadata": { "name": name, "labels": { "app": name } }, "size": size })
}

fn key(name: &str) -> Key {
    Key::new(THINGS, "ns", name)
}

async fn create(store: &Store, name: &str) -> Result<u64, CommitError> {
    let mut transaction = Transaction::default();
    transaction.create(key(name), thing(name, 1));
    Ok(store.commit(transaction).await?[0].version)
}

fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    let exe = std::env::current_exe().unwrap();
    command
        .args(["-c", r#"ulimit -S -f 8192; trap '' XFSZ; exec "$0" "$@""#])
        .arg(exe)
        .args(["--exact", "--ignored", "--nocapture", test])
        .env(STATE, directory)
        .stdout(Stdio::piped());
    command
}

fn child_store() -> Store {
    open(Path::new(&std::env::var_os(STATE).expect("started by its parent test")))
}

fn spec(name: &str, era: u32) -> Spec {
    Spec {
        name: name.to_owned(),
        kind: "Thing".to_owned(),
        api_version: "v1".to_owned(),
        fields: Box::new(|object| vec![("size".into(), object["size"].to_string())]),
        era,
        on_load: Box::new(move |object| if object["size"] == 1 { era } else { 0 }),
    }
}

#[tokio::test]
async fn a_resource_defined_later_claims_what_the_file_holds() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let gadgets = store.define(spec("gadgets.example.com", 1));
    let mut transaction = Transaction::default();
    transaction.create(Key::new(gadgets, "ns", "small"), thing("small", 1));
    transaction.create(Key::new(gadgets, "ns", "large"), thing("large", 2));
    let written = store.commit(transaction).await.unwrap();
    assert_eq!([written[0].era, written[1].era], [1, 0]);
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.unclaimed(), ["gadgets.example.com"]);
    let again = store.define(spec("gadgets.example.com", 2));
    assert_eq!(store.unclaimed(), Vec::<String>::new());
    let small = store.get(&Key::new(again, "ns", "small")).unwrap();
    assert_eq!((small.version, small.era, small.field("size")), (written[0].version, 2, "1"));
    assert_eq!(*store.subscribe(again).borrow(), written[1].version);
    // Another form of the same resource keeps its number and its objects.
    assert_eq!(store.define(spec("gadgets.example.com", 3)), again);
    assert_eq!(store.get(&Key::new(again, "ns", "small")).unwrap().era, 3);
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = create(&store, "a").await.unwrap();
    let second = create(&store, "b").await.unwrap();
    let mut transaction = Transaction::default();
    transaction.delete(key("a"), first, None);
    let deleted = store.commit(transaction).await.unwrap()[0].version;
    drop(store);

    let store = open(directory.path());
    assert!(first < second && second < deleted);
    assert_eq!(store.version(), deleted);
    assert!(store.get(&key("a")).is_none());
    let record = store.get(&key("b")).unwrap();
    assert_eq!(record.version, second);
    assert_eq!(record.value()["metadata"]["resourceVersion"], second.to_string());
    assert_eq!(record.label("app"), Some("b"));
    assert_eq!(record.field("size"), "1");
    assert!(create(&store, "c").await.unwrap() > deleted);
}

#[tokio::test]
async fn a_transaction_with_a_wrong_expectation_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let version = create(&store, "a").await.unwrap();
    let mut transaction = Transaction::default();
    transaction.create(key("b"), thing("b", 1));
    transaction.replace(key("a"), version + 7, thing("a", 2));
    let error = store.commit(transaction).await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict(1)), "{error:?}");
    assert!(store.get(&key("b")).is_none());
    assert_eq!(store.version(), version);
}

#[tokio::test]
async fn of_two_writers_with_the_same_version_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let version = create(&store, "a").await.unwrap();
    let write = |size| {
        let mut transaction = Transaction::default();
        transaction.replace(key("a"), version, thing("a", size));
        store.commit(transaction)
    };
    let (first, second) = futures::join!(write(2), write(3));
    assert!(first.is_ok());
    assert!(matches!(second, Err(CommitError::Conflict(0))));
    assert_eq!(store.get(&key("a")).unwrap().field("size"), "2");
}

#[tokio::test]
async fn events_resume_and_old_versions_are_expired() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = create(&store, "a").await.unwrap();
    let second = create(&store, "b").await.unwrap();
    let (events, complete) = store.events_after(THINGS, first, 10).unwrap();
    assert_eq!(events.iter().map(|event| &*event.path).collect::<Vec<_>>(), ["ns/b"]);
    assert_eq!(complete, second);
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.events_after(THINGS, second, 10).unwrap().1, second);
    let expired = store.events_after(THINGS, first, 10).unwrap_err();
    assert_eq!(expired, Expired { asked: first, oldest: second });
    assert!(store.events_after(OTHERS, first, 10).is_ok(), "nothing ever happened to these");
}

#[tokio::test]
async fn a_page_shows_the_past() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    create(&store, "a").await.unwrap();
    let b = create(&store, "b").await.unwrap();
    let mut transaction = Transaction::default();
    transaction.delete(key("b"), b, None);
    transaction.create(key("c"), thing("c", 1));
    store.commit(transaction).await.unwrap();
    let names = |after, version| {
        let page = Page { prefix: "ns/", after, version };
        let listing = store.page(THINGS, &page).unwrap();
        listing.objects.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("", b), ["ns/a", "ns/b"]);
    assert_eq!(names("ns/a", b), ["ns/b"]);
    assert_eq!(names("", store.version()), ["ns/a", "ns/c"]);
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path());
    let error = Store::open(directory.path(), specs()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
}

#[test]
fn another_format_is_named() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    file::set_format(directory.path(), 7);
    let error = Store::open(directory.path(), specs()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("has format 7") && text.contains("reads format 1"), "{text}");
}

#[test]
fn a_file_that_is_no_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("state.redb"), "x".repeat(100_000)).unwrap();
    let error = Store::open(directory.path(), specs()).err().unwrap();
    assert!(matches!(error, StoreError::Read { .. } | StoreError::Open { .. }), "{error:?}");
}

#[test]
fn an_acknowledged_write_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = child("store::tests::child_that_is_killed", directory.path()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        if let Some((_, name)) = line.split_once("acknowledged ") {
            acknowledged.push(name.to_owned());
        }
        if acknowledged.len() == 300 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 300, "the child wrote only {}", acknowledged.len());
    let store = open(directory.path());
    for name in &acknowledged {
        assert!(store.get(&key(name)).is_some(), "{name} is lost");
    }
}

#[tokio::test]
#[ignore = "run by an_acknowledged_write_survives_kill_9, which kills it"]
async fn child_that_is_killed() {
    let store = child_store();
    for round in 0.. {
        let names: Vec<String> = (0..8).map(|n| format!("t{round}-{n}")).collect();
        let writes = names.iter().map(|name| create(&store, name));
        for result in futures::future::join_all(writes).await {
            result.unwrap();
        }
        for name in names {
            println!("acknowledged {name}");
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let child = child("store::tests::child_on_a_full_disk", directory.path());
    let output = { child }.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let store = open(directory.path());
    assert!(store.get(&key("after")).is_some());
    assert!(store.get(&key("refused")).is_none());
}

#[tokio::test]
#[ignore = "run by a_full_disk_refuses_writes_until_there_is_room, under a file size limit"]
async fn child_on_a_full_disk() {
    let store = child_store();
    create(&store, "before").await.unwrap();
    let mut big = thing("refused", 1);
    big["blob"] = "x".repeat(8 << 20).into();
    let mut transaction = Transaction::default();
    transaction.create(key("refused"), big);
    let error = store.commit(transaction).await.unwrap_err();
    assert!(matches!(error, CommitError::Disk { .. }), "{error:?}");
    assert!(error.to_string().contains("make room"));
    assert!(store.get(&key("before")).is_some(), "reading goes on");
    let last = store.version();

    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    assert!(create(&store, "after").await.unwrap() > last);
}

/// One random write: which object, and whether it is deleted if it exists.
type RandomWrite = (usize, bool);

async fn write_randomly(store: &Store, (object, delete): RandomWrite) {
    let name = format!("o{object}");
    let mut transaction = Transaction::default();
    match store.get(&key(&name)) {
        Some(record) if delete => transaction.delete(key(&name), record.version, None),
        Some(record) => transaction.replace(key(&name), record.version, thing(&name, 2)),
        None => transaction.create(key(&name), thing(&name, 1)),
    }
    store.commit(transaction).await.unwrap();
}

fn versions(listing: &Listing) -> Vec<(String, u64)> {
    listing.objects.iter().map(|(path, record)| (path.to_string(), record.version)).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn every_past_state_can_be_listed_and_replayed(
        writes in proptest::collection::vec((0..5usize, proptest::bool::ANY), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let store = open(directory.path());
            let mut past = Vec::new();
            for write in writes {
                write_randomly(&store, write).await;
                past.push((store.version(), versions(&store.list(THINGS, ""))));
            }
            let mut replayed = std::collections::BTreeMap::new();
            let mut position = 0;
            for (version, state) in past {
                let page = Page { prefix: "", after: "", version };
                assert_eq!(versions(&store.page(THINGS, &page).unwrap()), state);
                let (events, _) = store.events_after(THINGS, position, 1).unwrap();
                for event in events {
                    position = event.object.version;
                    if event.deleted {
                        replayed.remove(&*event.path);
                    } else {
                        replayed.insert(event.path.to_string(), position);
                    }
                }
                assert_eq!(replayed.clone().into_iter().collect::<Vec<_>>(), state);
            }
        });
    }
}

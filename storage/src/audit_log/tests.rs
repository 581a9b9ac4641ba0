//! The log against a disk that fails, a process that dies and a clock that moves on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use engine::audit::EventKind;
use serde_json::Value;
use uuid::Uuid;

use super::*;

/// 2026-11-24T22:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_557_600_000);
const HOUR: u64 = 3_600_000;

fn event(number: u128, at: UnixMillis, refusal: Option<&'static str>) -> AuditEvent {
    let mut event = AuditEvent::empty(EventKind::Request, rfc3339(at), Uuid::from_u128(number));
    event.decision.refusal = refusal;
    event.answer.status = 404;
    event
}

fn open(dir: &Path, now: UnixMillis) -> AuditLog {
    AuditLog::open(dir, AuditSettings::default(), now).unwrap()
}

/// A directory for a log, and what removes it.
fn private() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    crate::files::private_dir(&dir).unwrap();
    (home, dir)
}

/// The records of a file; every line has to be one.
fn records(text: &[u8]) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with(b"\n"));
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The numbers of the requests among some records, in order.
fn numbers(records: &[Value]) -> Vec<u128> {
    let requests = records.iter().filter(|record| record["kind"] == "request");
    requests.map(|record| record["request_id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128()).collect()
}

fn details(records: &[Value], kind: &str) -> Vec<String> {
    let own = records.iter().filter(|record| record["kind"] == kind);
    own.map(|record| record["decision"]["detail"].as_str().unwrap().to_owned()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// A disk of so many bytes, whose syncs can be made to fail.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    room: usize,
    sync_fails: bool,
    written: Vec<u8>,
    appends: usize,
    synced: usize,
    rotations: Vec<(String, String)>,
}

impl Disk {
    fn of(bytes: usize) -> Self {
        let disk = Self::default();
        lock(&disk.0).room = bytes;
        disk
    }

    fn log(&self, queue_max: usize) -> AuditLog {
        let settings = AuditSettings { queue_max, ..AuditSettings::default() };
        AuditLog::start(Box::new(self.clone()), "2026-11-24".into(), settings, None).unwrap()
    }

    fn synced(&self) -> Vec<Value> {
        let state = lock(&self.0);
        records(&state.written[..state.synced])
    }
}

impl Sink for Disk {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.appends += 1;
        let fits = lines.len().min(state.room - state.written.len().min(state.room));
        state.written.extend_from_slice(&lines[..fits]);
        if fits < lines.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn renew(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.sync_fails {
            // As a kernel does: what was not synced is gone, and the next sync would say that all is well.
            let synced = state.synced;
            state.written[synced..].fill(b'?');
            return Err(io::Error::other("the disk is broken"));
        }
        state.synced = state.written.len();
        Ok(())
    }

    fn rewind(&mut self) -> io::Result<()> {
        let mut state = lock(&self.0);
        let synced = state.synced;
        state.written.truncate(synced);
        Ok(())
    }

    fn rotate(&mut self, finished: &str, begun: &str) -> io::Result<()> {
        lock(&self.0).rotations.push((finished.to_owned(), begun.to_owned()));
        Ok(())
    }
}

/// Asks again and again, letting other threads run, until it is so. The test's own time limit ends it.
async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

fn is_failing(log: &AuditLog) -> bool {
    matches!(log.health().state, AuditState::Failing { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_written_in_order_and_closing_loses_none() {
    let (_home, dir) = private();
    let log = open(&dir, NOW);
    for number in 0..2_000 {
        log.append(event(number, NOW, None)).unwrap();
    }
    log.close().await.unwrap();
    let written = records(&fs::read(dir.join("audit.jsonl")).unwrap());
    assert_eq!(numbers(&written), (0..2_000).collect::<Vec<_>>());
    assert_eq!(log.append(event(1, NOW, None)), Err(AppendError::Closed));
    assert_eq!(log.append_durable(event(1, NOW, None)).await, Err(AppendError::Closed));
    assert_eq!(log.health().state, AuditState::Closed);
    assert!(!log.accepts());
    assert_eq!(log.close().await, Ok(()), "closing again does nothing");
}

/// Each with a moment between it and the next, in which a writer that is woken for each has written it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_come_one_by_one_are_written_together() {
    const RECORDS: u128 = 500;
    let disk = Disk::of(usize::MAX);
    let log = disk.log(1_000);
    for number in 0..RECORDS {
        log.append(event(number, NOW, None)).unwrap();
        (0..20_000).for_each(|_| std::hint::spin_loop());
    }
    log.close().await.unwrap();
    assert_eq!(numbers(&disk.synced()), (0..RECORDS).collect::<Vec<_>>());
    let appends = lock(&disk.0).appends;
    assert!(appends < 250, "{appends} writes for {RECORDS} records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_everybody_who_was_told_yes() {
    for _ in 0..20 {
        let disk = Disk::of(usize::MAX);
        let log = disk.log(8192);
        let writers = (0..4_u128).map(|writer| {
            let log = log.clone();
            std::thread::spawn(move || {
                let taken = (0..200).map(|number| writer * 1000 + number);
                taken.take_while(|number| log.append(event(*number, NOW, None)).is_ok()).count()
            })
        });
        let writers: Vec<_> = writers.collect();
        log.close().await.unwrap();
        let taken: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert_eq!(numbers(&disk.synced()).len(), taken);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_there_soon_and_a_durable_one_before_the_answer() {
    let (_home, dir) = private();
    let live = dir.join("audit.jsonl");
    let log = open(&dir, NOW);
    assert_eq!(fs::metadata(&live).unwrap().permissions().mode() & 0o777, 0o600);
    log.append_durable(event(1, NOW, None)).await.unwrap();
    assert_eq!(numbers(&records(&fs::read(&live).unwrap())), [1], "already there");
    log.append(event(2, NOW, None)).unwrap();
    let soon = tokio::time::timeout(
        Duration::from_millis(200),
        until(|| numbers(&records(&fs::read(&live).unwrap())) == [1, 2]),
    );
    soon.await.expect("within 200 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_loud_refuses_what_must_not_go_on_and_loses_nothing_that_waits() {
    let line = serde_json::to_vec(&event(1, NOW, None)).unwrap().len() + 1;
    // The third line fits by half.
    let disk = Disk::of(line * 5 / 2);
    let log = disk.log(8);
    assert_eq!(log.health().state, AuditState::Writing);
    log.append_durable(event(1, NOW, None)).await.unwrap();
    log.append_durable(event(2, NOW, None)).await.unwrap();
    assert!(log.accepts());
    assert_eq!(log.append_durable(event(3, NOW, None)).await, Err(AppendError::Failing));
    assert!(is_failing(&log), "and it shows why: {:?}", log.health());
    assert!(!log.accepts());
    assert_eq!(log.append_durable(event(4, NOW, None)).await, Err(AppendError::Failing), "at once");

    for number in 5..13 {
        log.append(event(number, NOW, None)).unwrap();
    }
    assert_eq!(log.append(event(13, NOW, None)), Err(AppendError::Full));
    assert_eq!((log.health().lost, log.health().queued), (1, 8));

    lock(&disk.0).room = usize::MAX;
    until(|| log.health().state == AuditState::Writing && log.health().queued == 0).await;
    assert!(log.accepts(), "it heals by itself");
    log.close().await.unwrap();
    let written = disk.synced();
    assert_eq!(numbers(&written), [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12], "in order, none twice");
    assert_eq!(details(&written, "security"), ["1 audit records were lost"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_sync_dropped_is_written_anew() {
    let disk = Disk::of(usize::MAX);
    let log = disk.log(8192);
    log.append_durable(event(1, NOW, None)).await.unwrap();
    lock(&disk.0).sync_fails = true;
    log.append(event(2, NOW, None)).unwrap();
    assert_eq!(log.append_durable(event(3, NOW, None)).await, Err(AppendError::Failing));
    lock(&disk.0).sync_fails = false;
    until(|| log.health().state == AuditState::Writing).await;
    log.append_durable(event(4, NOW, None)).await.unwrap();
    assert_eq!(numbers(&disk.synced()), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_on_a_full_disk_gives_up_and_says_what_is_lost() {
    let log = Disk::of(0).log(8192);
    for number in 0..3 {
        log.append(event(number, NOW, None)).unwrap();
    }
    assert_eq!(log.close().await, Err(CloseError { lost: 3 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowded_queue_keeps_its_rest_for_what_is_under_way() {
    let disk = Disk::of(0);
    let log = disk.log(8);
    log.append(event(0, NOW, None)).unwrap();
    until(|| is_failing(&log) && log.health().queued == 0).await;
    // As if writing worked but lagged: only the crowd counts now.
    let crowd = |count: u128| (1..=count).for_each(|number| log.append(event(number, NOW, None)).unwrap());
    crowd(6);
    assert_eq!(
        log.append_early(event(99, NOW, Some("unrouted")), NOW),
        EarlyOutcome::Counted,
        "no room for it"
    );
    assert_eq!(log.health().queued, 6);
    lock(&disk.0).room = usize::MAX;
    log.close().await.unwrap();
    let written = disk.synced();
    assert_eq!(numbers(&written), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(details(&written, "summary"), ["1 early refusals without a record of their own"]);
}

/// Threat 20: a flood of what is refused early does not fill the disk, and is not forgotten either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_refusals_have_a_share_and_the_rest_is_counted() {
    let disk = Disk::of(usize::MAX);
    let log = disk.log(8192);
    let mut recorded = 0;
    for number in 0..5_000 {
        let code = if number % 5 == 0 { "malformed" } else { "unrouted" };
        let outcome = log.append_early(event(number, NOW, Some(code)), NOW);
        recorded += usize::from(outcome == EarlyOutcome::Recorded);
    }
    assert_eq!(recorded, 1_000, "the burst");
    for number in 0..500 {
        let now = NOW.plus(2_000);
        let outcome = log.append_early(event(number, now, Some("unrouted")), now);
        recorded += usize::from(outcome == EarlyOutcome::Recorded);
    }
    assert_eq!(recorded, 1_200, "and a hundred a second");
    assert_eq!(log.health().summarised, 4_300);
    log.close().await.unwrap();
    let written = disk.synced();
    assert_eq!(numbers(&written).len(), 1_200);
    let counted = written.iter().filter(|record| record["kind"] == "summary");
    let counted = counted.flat_map(|record| record["notes"].as_array().unwrap().clone());
    let mut total = (0, 0);
    for note in counted {
        let (code, count) = note.as_str().unwrap().split_once(": ").unwrap();
        let count: u64 = count.parse().unwrap();
        if code == "malformed" { total.0 += count } else { total.1 += count }
    }
    assert_eq!(total, (800, 3_500), "every one of them, by refusal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_day_has_its_file_and_old_ones_go() {
    let (_home, dir) = private();
    for name in ["audit-2026-10-25.jsonl", "audit-2026-10-26.jsonl", "audit-2020-01-01.1.jsonl", "notes.txt"]
    {
        fs::write(dir.join(name), "").unwrap();
    }
    let log = open(&dir, NOW);
    let midnight = NOW.plus(2 * HOUR);
    log.append(event(1, NOW, None)).unwrap();
    log.append(event(2, midnight, None)).unwrap();
    log.append(event(3, UnixMillis(midnight.0 - 1), None)).unwrap();
    log.append(event(4, midnight.plus(1), None)).unwrap();
    log.close().await.unwrap();
    let file = |name| numbers(&records(&fs::read(dir.join(name)).unwrap()));
    assert_eq!(file("audit-2026-11-24.jsonl"), [1]);
    assert_eq!(file("audit.jsonl"), [2, 3, 4], "a late one stays in its order");
    let left = ["audit-2026-10-26.jsonl", "audit-2026-11-24.jsonl", "audit.jsonl", "notes.txt"];
    assert_eq!(names(&dir), left, "30 days are kept");

    let log = open(&dir, midnight.plus(24 * HOUR));
    log.append(event(5, midnight.plus(24 * HOUR), None)).unwrap();
    log.close().await.unwrap();
    assert_eq!(file("audit-2026-11-25.jsonl"), [2, 3, 4], "rotated when it is opened on a later day");
    assert_eq!(file("audit.jsonl"), [5]);

    fs::write(dir.join("audit-2026-11-26.jsonl"), "kept\n").unwrap();
    open(&dir, midnight.plus(48 * HOUR)).close().await.unwrap();
    assert_eq!(fs::read(dir.join("audit-2026-11-26.jsonl")).unwrap(), b"kept\n", "never overwritten");
    assert_eq!(file("audit-2026-11-26.1.jsonl"), [5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_a_crash_cut_is_never_glued_to_the_next() {
    let (_home, dir) = private();
    let live = dir.join("audit.jsonl");
    let log = open(&dir, NOW);
    log.append(event(1, NOW, None)).unwrap();
    log.append(event(2, NOW, None)).unwrap();
    log.close().await.unwrap();
    let whole = fs::read(&live).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;

    for length in second..=whole.len() {
        fs::write(&live, &whole[..length]).unwrap();
        let log = open(&dir, NOW);
        log.append(event(3, NOW, None)).unwrap();
        log.close().await.unwrap();
        let text = fs::read(&live).unwrap();
        assert!(text.ends_with(b"\n"));
        let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let (torn, good): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| serde_json::from_slice::<Value>(line).is_err());
        let good = records(&[good.join(b"\n".as_slice()), b"\n".to_vec()].concat());
        // Without its newline, the last line is whole all the same.
        let (cut, kept) = (length > second && length < whole.len() - 1, length >= whole.len() - 1);
        assert_eq!(torn.len(), usize::from(cut), "cut at {length}");
        assert_eq!(numbers(&good), if kept { vec![1, 2, 3] } else { vec![1, 3] }, "cut at {length}");
        let noted = length > second && length < whole.len();
        assert_eq!(details(&good, "security").len(), usize::from(noted), "cut at {length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_file_that_is_moved_away_is_begun_anew() {
    for removed in [false, true] {
        let (home, dir) = private();
        let live = dir.join("audit.jsonl");
        let elsewhere = home.path().join("taken.jsonl");
        let log = open(&dir, NOW);
        log.append_durable(event(1, NOW, None)).await.unwrap();
        if removed {
            fs::remove_file(&live).unwrap()
        } else {
            fs::rename(&live, &elsewhere).unwrap()
        }
        log.append_durable(event(2, NOW.plus(5), None)).await.unwrap();
        let written = records(&fs::read(&live).unwrap());
        assert_eq!(numbers(&written), [2]);
        assert_eq!(fs::metadata(&live).unwrap().permissions().mode() & 0o777, 0o600);
        let told = details(&written, "security");
        assert!(told.len() == 1 && told[0].starts_with("the live file was moved away"), "{told:?}");
        assert_eq!(written[0]["time"], rfc3339(NOW.plus(5)), "told first, at the time of what found it out");
        if !removed {
            assert_eq!(numbers(&records(&fs::read(&elsewhere).unwrap())), [1], "nothing is torn or doubled");
        }
        log.close().await.unwrap();
    }
}

/// Whoever can write the directory cannot make the log follow a link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_the_place_of_the_live_file_is_not_followed() {
    let (home, dir) = private();
    let (live, elsewhere) = (dir.join("audit.jsonl"), home.path().join("elsewhere"));
    let log = open(&dir, NOW);
    fs::rename(&live, home.path().join("taken.jsonl")).unwrap();
    fs::write(&elsewhere, "").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &live).unwrap();
    assert_eq!(log.append_durable(event(1, NOW, None)).await, Err(AppendError::Failing));
    assert!(is_failing(&log) && !log.accepts());
    fs::remove_file(&live).unwrap();
    until(|| log.health().state == AuditState::Writing).await;
    log.append_durable(event(2, NOW, None)).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
    assert_eq!(numbers(&records(&fs::read(&live).unwrap())), [1, 2]);
}

#[tokio::test]
async fn a_log_that_others_can_read_is_not_opened() {
    let (_home, dir) = private();
    open(&dir, NOW).close().await.unwrap();
    fs::set_permissions(dir.join("audit.jsonl"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = AuditLog::open(&dir, AuditSettings::default(), NOW);
    assert!(matches!(refused, Err(AuditOpenError::Private(PrivateError::Exposed { .. }))));
}

#[tokio::test]
async fn whoever_mirrors_the_log_is_handed_what_stands_in_it_in_its_order() {
    let (_home, dir) = private();
    let handed = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&handed);
    let mirror: Mirror = Box::new(move |event| lock(&theirs).push(event.request_id.to_string()));
    let settings = AuditSettings { early_burst: 1, early_per_second: 0, ..AuditSettings::default() };
    let log = AuditLog::open_mirrored(&dir, settings, NOW, Some(mirror)).unwrap();
    log.append(event(1, NOW, None)).unwrap();
    log.append_durable(event(2, NOW, None)).await.unwrap();
    log.append_early(event(3, NOW, Some("unrouted")), NOW);
    log.append_early(event(4, NOW, Some("unrouted")), NOW);
    log.close().await.unwrap();
    let filed = records(&fs::read(dir.join("audit.jsonl")).unwrap());
    let filed: Vec<String> =
        filed.iter().map(|record| record["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(filed.len(), 4, "three records and a summary");
    assert_eq!(*lock(&handed), filed);
}

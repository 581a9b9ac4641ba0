//! What is read, what is refused, and what a change is told by.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::{BUNDLE_ENTRIES_MAX, FILE_BYTES_MAX, Watch, look_at, read, read_twice, shipped, write_to};

/// A small bundle, closed to others.
fn bundle() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        close(&path, 0o644);
        close(path.parent().unwrap(), 0o755);
    };
    put("schema.cedarschema", "schema");
    put("guardrails/a.cedar", "forbid");
    put("grants/b.cedar", "permit");
    put("entities/roles.json", "[]");
    put("routes/docs.toml", "module");
    put("README.md", "for people");
    put("matrix.txt", "for people");
    put("tests/docs.json", "for tests");
    directory
}

fn close(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn only_the_bundle_is_read() {
    let directory = bundle();
    for (name, text) in
        [("grants/.b.cedar.swp", "editor"), ("grants/b.cedar~", "editor"), (".git", "history")]
    {
        fs::write(directory.path().join(name), text).unwrap();
    }
    // What is passed over may be anything, because it is never opened.
    symlink("/nonexistent", directory.path().join("grants/.#b.cedar")).unwrap();
    let sources = read(directory.path()).unwrap();
    let names: Vec<&str> = sources.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "entities/roles.json",
            "grants/b.cedar",
            "guardrails/a.cedar",
            "routes/docs.toml",
            "schema.cedarschema"
        ]
    );
    assert_eq!(sources.files["guardrails/a.cedar"], "forbid");
}

#[test]
fn threat_17_what_others_could_have_written_is_refused() {
    let check = |what: &str, change: &dyn Fn(&Path), file: &str, message: &str| {
        let directory = bundle();
        change(directory.path());
        let faults = read(directory.path()).unwrap_err();
        assert_eq!(faults.len(), 1, "{what}: {faults:?}");
        assert!(faults[0].file.ends_with(file), "{what}: {faults:?}");
        assert!(faults[0].message.contains(message), "{what}: {faults:?}");
        assert!(!faults[0].remedy.is_empty(), "{what}");
    };
    let guardrail = "guardrails/a.cedar";
    check("file open to the group", &|d| close(&d.join(guardrail), 0o664), guardrail, "mode 0664");
    check("file open to all", &|d| close(&d.join(guardrail), 0o646), guardrail, "mode 0646");
    check("part open to the group", &|d| close(&d.join("grants"), 0o775), "grants/", "mode 0775");
    check("all open to the group", &|d| close(d, 0o770), "", "mode 0770");
    let linked = |name: &'static str| {
        move |d: &Path| {
            let (from, to) = (d.join(name), d.join("tests").join("kept"));
            fs::rename(&from, &to).unwrap();
            symlink(&to, &from).unwrap();
        }
    };
    check("file is a symlink", &linked(guardrail), guardrail, "symlink");
    check("part is a symlink", &linked("grants"), "grants/", "symlink");
    check("schema is a symlink", &linked("schema.cedarschema"), "schema.cedarschema", "symlink");
    let fifo = |d: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, d.join("routes/pipe.toml"), mode).unwrap();
    };
    check("a FIFO", &fifo, "routes/pipe.toml", "not a regular file");
    check(
        "a directory",
        &|d| fs::create_dir(d.join("routes/x.toml")).unwrap(),
        "routes/x.toml",
        "not a regular file",
    );
    check(
        "a part is a file",
        &|d| {
            fs::remove_dir_all(d.join("grants")).unwrap();
            fs::write(d.join("grants"), "").unwrap();
        },
        "grants/",
        "not a directory",
    );
    check(
        "an unknown file",
        &|d| fs::write(d.join("extra.cedar"), "").unwrap(),
        "extra.cedar",
        "nothing of this name",
    );
    check(
        "a wrong ending",
        &|d| fs::write(d.join("grants/c.ceder"), "").unwrap(),
        "grants/c.ceder",
        "`.cedar`",
    );
    check("not text", &|d| fs::write(d.join(guardrail), [0xff]).unwrap(), guardrail, "UTF-8");
    check(
        "a large file",
        &|d| {
            fs::write(d.join(guardrail), vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();
        },
        guardrail,
        "larger than",
    );
    check(
        "too many entries",
        &|d| {
            for index in 0..BUNDLE_ENTRIES_MAX {
                fs::write(d.join(format!("routes/{index}.toml")), "").unwrap();
            }
        },
        "routes/",
        "too many entries",
    );
    if rustix::process::geteuid().is_root() {
        check(
            "somebody else's file",
            &|d| {
                std::os::unix::fs::chown(d.join(guardrail), Some(65_534), None).unwrap();
            },
            guardrail,
            "another user",
        );
    }
}

#[test]
fn a_look_asks_for_no_owner_and_follows_no_symlink() {
    let directory = bundle();
    close(directory.path(), 0o775);
    close(&directory.path().join("grants/b.cedar"), 0o664);
    assert_eq!(look_at(directory.path()).unwrap().files.len(), 5);
    symlink("/etc/hostname", directory.path().join("grants/c.cedar")).unwrap();
    assert!(look_at(directory.path()).unwrap_err()[0].message.contains("symlink"));
}

#[test]
fn threat_17_the_directory_may_be_one_symlink_and_no_chain() {
    let directory = bundle();
    let beside = tempfile::tempdir().unwrap();
    symlink(directory.path(), beside.path().join("current")).unwrap();
    assert!(read(&beside.path().join("current")).is_ok());
    symlink("current", beside.path().join("alias")).unwrap();
    let faults = read(&beside.path().join("alias")).unwrap_err();
    assert!(faults[0].message.contains("symlink"), "{faults:?}");
    let faults = read(&beside.path().join("absent")).unwrap_err();
    assert!(faults[0].message.contains("no such file"), "{faults:?}");
}

#[test]
fn threat_17_a_change_in_the_middle_of_a_load_is_a_fault() {
    let check = |change: &dyn Fn(&Path), file: &str| {
        let directory = bundle();
        let faults = read_twice(directory.path(), || change(directory.path())).unwrap_err();
        assert_eq!(faults[0].file, file, "{faults:?}");
        assert!(faults[0].message.contains("changed while"), "{faults:?}");
    };
    check(&|d| fs::remove_file(d.join("guardrails/a.cedar")).unwrap(), "guardrails/a.cedar");
    check(&|d| fs::write(d.join("grants/b.cedar"), "more").unwrap(), "grants/b.cedar");
    check(&|d| fs::rename(d.join("grants/b.cedar"), d.join("grants/c.cedar")).unwrap(), "grants/c.cedar");
}

#[test]
fn the_shipped_bundle_is_written_once_and_reads_back() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("policies");
    write_to(&directory).unwrap();
    let written = read(&directory).unwrap();
    let shipped = shipped();
    assert!(!written.files.is_empty());
    for (path, text) in &written.files {
        assert_eq!(shipped.files.get(path), Some(text), "{path}");
    }
    fs::write(directory.join("grants/mine.cedar"), "kept").unwrap();
    assert!(write_to(&directory).is_err());
    assert_eq!(fs::read_to_string(directory.join("grants/mine.cedar")).unwrap(), "kept");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left aside");
}

#[tokio::test]
async fn a_change_is_told_after_rest_and_our_own_reading_is_none() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let directory = bundle();
    let beside = tempfile::tempdir().unwrap();
    let path = beside.path().join("policies");
    symlink(directory.path(), &path).unwrap();
    let (watch, mut told) = Watch::begin(&path).unwrap();

    let mut expect = async |what: &str, change: &dyn Fn()| {
        change();
        tokio::time::timeout(PATIENCE, told.changed()).await.expect(what).unwrap();
        told.borrow_and_update();
    };
    expect("a file is written", &|| fs::write(directory.path().join("grants/b.cedar"), "other").unwrap())
        .await;
    expect("a file is added", &|| fs::write(directory.path().join("grants/c.cedar"), "more").unwrap()).await;
    expect("a file is removed", &|| fs::remove_file(directory.path().join("grants/c.cedar")).unwrap()).await;
    let next = bundle();
    expect("the symlink is swapped", &|| {
        symlink(next.path(), beside.path().join("next")).unwrap();
        fs::rename(beside.path().join("next"), &path).unwrap();
    })
    .await;
    expect("a file of the new target is written", &|| {
        fs::write(next.path().join("routes/docs.toml"), "new").unwrap();
    })
    .await;

    // Neither reading nor a neighbour is a change: of what follows, only the last one is told.
    let before = *told.borrow_and_update();
    read(&path).unwrap();
    fs::write(beside.path().join("neighbour"), "x").unwrap();
    fs::write(next.path().join("routes/docs.toml"), "newer").unwrap();
    tokio::time::timeout(PATIENCE, told.changed()).await.unwrap().unwrap();
    assert_eq!(*told.borrow_and_update(), before + 1);
    drop(watch);
    assert!(told.changed().await.is_err(), "a dropped watch ends");
}

//! The order of events and polls, with the clock in hand.

use std::fs::write;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{advance, timeout};

use super::*;

/// A watch of files `a` and `b`, and of `*.toml`, whose changes are told by the test.
struct Lab {
    folder: TempDir,
    tell: mpsc::Sender<Change>,
    concern: Arc<Concern>,
    watch: Watch,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tell, changes) = mpsc::channel(QUEUE);
        let concern = Arc::<Concern>::default();
        let mut watch = Watch::of(None, changes, Arc::clone(&concern));
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let files = paths.map(|path| {
            write(&path, "").unwrap();
            let print = Print::of(&path);
            (path, print)
        });
        let names = FileNames::parse("*.toml").unwrap();
        let pattern = (folder.path().join("*.toml"), Print::of_names(&names, folder.path()));
        watch.set(files.into_iter().chain([pattern]));
        Self { folder, tell, concern, watch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn writing(&self, name: &str) {
        self.tell.try_send(Change::Writing(self.path(name))).unwrap();
    }

    fn complete(&self, name: &str) {
        self.tell.try_send(Change::Complete(self.path(name))).unwrap();
    }

    /// Whether a change is noticed within a time.
    async fn notices_within(&mut self, time: Duration) -> bool {
        timeout(time, self.watch.changed()).await.is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_followed_by_quiet() {
    let mut lab = Lab::new();
    lab.complete("a");
    assert!(!lab.notices_within(QUIET - Duration::from_millis(1)).await);
    assert!(lab.notices_within(Duration::from_millis(2)).await);
    assert!(!lab.notices_within(POLL * 4).await, "once");
}

#[tokio::test(start_paused = true)]
async fn changes_without_end_do_not_put_it_off_for_ever() {
    let mut lab = Lab::new();
    let began = Instant::now();
    lab.complete("a");
    while !lab.notices_within(QUIET / 2).await {
        lab.complete("a");
    }
    assert!((AT_MOST..AT_MOST + QUIET).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_and_waits_again_misses_nothing() {
    let mut lab = Lab::new();
    lab.complete("a");
    for _ in 0..QUIET.as_millis() - 1 {
        assert!(!lab.notices_within(Duration::from_millis(1)).await);
    }
    assert!(lab.notices_within(Duration::from_millis(2)).await);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_left_alone_by_the_poll_too() {
    let mut lab = Lab::new();
    lab.writing("a");
    write(lab.path("a"), "half").unwrap();
    assert!(!lab.notices_within(POLL * 100).await);
    lab.complete("a");
    assert!(lab.notices_within(QUIET * 2).await);
}

#[tokio::test(start_paused = true)]
async fn the_others_wait_with_it() {
    let mut lab = Lab::new();
    lab.writing("a");
    lab.complete("b");
    assert!(!lab.notices_within(POLL * 100).await);
    lab.complete("a");
    assert!(lab.notices_within(QUIET * 2).await);
}

#[tokio::test(start_paused = true)]
async fn who_writes_to_a_file_that_another_has_replaced_holds_up_nothing() {
    let mut lab = Lab::new();
    lab.writing("a");
    assert!(!lab.notices_within(QUIET).await);
    lab.complete("");
    assert!(lab.notices_within(QUIET * 2).await);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_tells_is_noticed_when_two_polls_agree() {
    let mut lab = Lab::new();
    assert!(!lab.notices_within(POLL / 2).await);
    write(lab.path("a"), "more").unwrap();
    assert!(!lab.notices_within(POLL).await, "one poll");
    write(lab.path("a"), "and more").unwrap();
    assert!(!lab.notices_within(POLL).await, "two that differ");
    assert!(lab.notices_within(POLL).await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_end_of_writing_is_no_writing_without_end() {
    let mut lab = Lab::new();
    lab.writing("a");
    write(lab.path("a"), "all of it").unwrap();
    assert!(!lab.notices_within(POLL * 4).await);
    lab.concern.lost.store(true, Ordering::Relaxed);
    assert!(lab.notices_within(POLL * 3).await);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_under_a_name_that_counts_is_waited_for() {
    let mut lab = Lab::new();
    let hears = |lab: &Lab, name| lab.concern.places().has(&lab.path(name));
    assert!(hears(&lab, "c.toml") && !hears(&lab, ".c.toml") && !hears(&lab, "c.tom") && !hears(&lab, "d/c.toml"));
    lab.writing("c.toml");
    lab.complete("a");
    assert!(!lab.notices_within(POLL * 100).await);
    lab.complete("c.toml");
    assert!(lab.notices_within(QUIET * 2).await);
    lab.writing("stranger");
    lab.complete("a");
    assert!(lab.notices_within(QUIET * 2).await, "who writes to a stranger holds up nothing");
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_tells_of_are_noticed_when_two_polls_agree() {
    let mut lab = Lab::new();
    assert!(!lab.notices_within(POLL / 2).await);
    write(lab.path(".c.toml"), "").unwrap();
    assert!(!lab.notices_within(POLL * 4).await, "hidden");
    write(lab.path("c.toml"), "").unwrap();
    assert!(lab.notices_within(POLL * 2).await);
    lab.watch.remember();
    assert!(!lab.notices_within(POLL * 4).await);
    std::fs::remove_file(lab.path("c.toml")).unwrap();
    assert!(lab.notices_within(POLL * 2).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_anyway_calls_for_no_second_reload() {
    let mut lab = Lab::new();
    lab.complete("a");
    lab.watch.begin();
    advance(QUIET).await;
    assert!(!lab.notices_within(POLL * 4).await);
}

#[test]
fn a_full_queue_is_said_and_pieces_of_a_file_are_one_change() {
    let (sender, mut changes) = mpsc::channel(1);
    let concern = Arc::<Concern>::default();
    concern.places().paths = ["/a".into(), "/b".into()].into();
    let mut listen = listener(sender, Arc::clone(&concern));
    let mut written = |path: &str| {
        let kind = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
        listen(Ok(Event::new(kind).add_path(path.into())));
    };
    written("/c");
    written("/a");
    written("/a");
    assert!(!concern.lost.load(Ordering::Relaxed));
    written("/b");
    assert!(concern.lost.load(Ordering::Relaxed));
    assert_eq!(changes.try_recv(), Ok(Change::Writing("/a".into())));
    written("/b");
    assert_eq!(changes.try_recv(), Ok(Change::Writing("/b".into())));
}

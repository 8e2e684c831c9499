//! Access reviews: questions to the API server, which the operator asks over the stream. `config` has the stream, and `auth` the
//! authorizers that ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use sluice_wire::{AccessReview, Reviewed};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How long a request waits for a result.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a result is used. A change of a role takes effect within this time.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(10);
/// Results that are remembered.
const MAX_REMEMBERED: usize = 16_384;
/// Questions without a result, and those about one user: further ones are not asked. Any number of requests waits for one.
const MAX_QUESTIONS: usize = 256;
const MAX_OF_USER: usize = 32;
/// Questions that wait to be sent.
const QUEUE: usize = 64;

/// What is asked: whether a user may call an ApiRoute with a method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) user: Box<str>,
    pub(crate) verb: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) route: Box<str>,
}

/// There is no result: no operator was connected in time, it has not responded in time, or too many questions wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecided;

type Outcome = Result<bool, Undecided>;

impl Question {
    fn review(&self, id: u64) -> AccessReview {
        AccessReview {
            id,
            user: self.user.to_string(),
            verb: self.verb.to_string(),
            namespace: self.namespace.to_string(),
            route: self.route.to_string(),
        }
    }
}

/// A question that was sent.
struct UnderWay {
    id: u64,
    began: Instant,
    result: watch::Sender<Option<Outcome>>,
}

#[derive(Default)]
struct Asked {
    /// The stream of the operator; none: it is not connected, or does not review.
    stream: Option<mpsc::Sender<AccessReview>>,
    /// When the last stream ended; none: there was none.
    disconnected: Option<Instant>,
    last: u64,
    questions: HashMap<Question, UnderWay>,
    by_id: HashMap<u64, Question>,
}

impl Asked {
    /// Forgets questions that no request waits for any more.
    fn forget_old(&mut self) {
        let Self { questions, by_id, .. } = self;
        questions.retain(|_, question| question.began.elapsed() < TIMEOUT);
        by_id.retain(|id, question| questions.get(question).is_some_and(|one| one.id == *id));
    }
}

/// The questions of a proxy. Clones are the same.
#[derive(Clone)]
pub struct AccessReviews(Arc<Shared>);

struct Shared {
    asked: Mutex<Asked>,
    remembered: Cache<Question, (bool, Instant), UnitWeighter, RandomState>,
}

impl Default for AccessReviews {
    fn default() -> Self {
        let (weighter, state) = (UnitWeighter, RandomState::default());
        let size = MAX_REMEMBERED as u64;
        let remembered = Cache::with(MAX_REMEMBERED, size, weighter, state, DefaultLifecycle::default());
        Self(Arc::new(Shared { asked: Mutex::default(), remembered }))
    }
}

impl std::fmt::Debug for AccessReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessReviews")
    }
}

impl AccessReviews {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The questions for an operator that has connected and reviews: first those that the stream before left without a result.
    pub(crate) fn connect(&self) -> mpsc::Receiver<AccessReview> {
        let mut asked = self.asked();
        asked.forget_old();
        let (sender, receiver) = mpsc::channel(QUEUE + asked.questions.len());
        for (question, under_way) in &asked.questions {
            // There is room for each of them.
            drop(sender.try_send(question.review(under_way.id)));
        }
        asked.stream = Some(sender);
        receiver
    }

    /// The operator is disconnected. A stream ends after an hour at most: questions wait for the next one.
    pub(crate) fn disconnect(&self) {
        let mut asked = self.asked();
        if asked.stream.take().is_some() {
            asked.disconnected = Some(Instant::now());
        }
    }

    /// A result has arrived.
    pub(crate) fn reviewed(&self, reviewed: &Reviewed) {
        let mut asked = self.asked();
        let Some(question) = asked.by_id.remove(&reviewed.id) else { return };
        let Some(under_way) = asked.questions.remove(&question) else { return };
        if let Some(allowed) = reviewed.allowed {
            // From the time of the question: a role may have changed since.
            self.0.remembered.insert(question, (allowed, under_way.began + REMEMBERED));
        }
        under_way.result.send_replace(Some(reviewed.allowed.ok_or(Undecided)));
    }

    /// A result that is remembered.
    pub(crate) fn remembered(&self, question: &Question) -> Option<bool> {
        let (allowed, until) = self.0.remembered.get(question)?;
        if until > Instant::now() {
            return Some(allowed);
        }
        self.0.remembered.remove_if(question, |(_, until)| *until <= Instant::now());
        None
    }

    /// Asks. Requests with the same question wait for one result.
    pub(crate) async fn ask(&self, question: &Question) -> Outcome {
        let mut result = self.begin(question)?;
        match tokio::time::timeout(TIMEOUT, result.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => (*outcome).unwrap_or(Err(Undecided)),
            // The question was replaced by a later one, or has no result in time.
            Ok(Err(_)) | Err(_) => Err(Undecided),
        }
    }

    fn begin(&self, question: &Question) -> Result<watch::Receiver<Option<Outcome>>, Undecided> {
        let mut asked = self.asked();
        if let Some(under_way) = asked.questions.get(question)
            && under_way.began.elapsed() < TIMEOUT
        {
            return Ok(under_way.result.subscribe());
        }
        if asked.questions.len() >= MAX_OF_USER {
            asked.forget_old();
        }
        let of_user = asked.questions.keys().filter(|other| other.user == question.user).count();
        if asked.questions.len() >= MAX_QUESTIONS || of_user >= MAX_OF_USER {
            return Err(Undecided);
        }
        asked.last += 1;
        let id = asked.last;
        match &asked.stream {
            Some(stream) => match stream.try_send(question.review(id)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(Undecided),
                // The stream has just ended.
                Err(TrySendError::Closed(_)) => {}
            },
            None if asked.disconnected.is_some_and(|at| at.elapsed() < TIMEOUT) => {}
            // An outage: nothing is gained by waiting.
            None => return Err(Undecided),
        }
        let (sender, result) = watch::channel(None);
        let under_way = UnderWay { id, began: Instant::now(), result: sender };
        if let Some(earlier) = asked.questions.insert(question.clone(), under_way) {
            asked.by_id.remove(&earlier.id);
        }
        asked.by_id.insert(id, question.clone());
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    fn question(user: &str) -> Question {
        Question { user: user.into(), verb: "get".into(), namespace: "shop".into(), route: "items".into() }
    }

    /// Sends the result of the next question.
    async fn reply(reviews: &AccessReviews, stream: &mut mpsc::Receiver<AccessReview>, allowed: Option<bool>) {
        let review = stream.recv().await.unwrap();
        reviews.reviewed(&Reviewed { id: review.id, allowed });
    }

    #[tokio::test(start_paused = true)]
    async fn requests_with_one_question_wait_for_one_result_which_is_remembered_for_a_time() {
        let reviews = AccessReviews::default();
        let mut stream = reviews.connect();
        for (user, allowed) in [("ann", true), ("bob", false)] {
            let asked = question(user);
            assert_eq!(reviews.remembered(&asked), None);
            let all = join_all((0..100).map(|_| reviews.ask(&asked)));
            let (outcomes, ()) = tokio::join!(all, reply(&reviews, &mut stream, Some(allowed)));
            assert!(outcomes.iter().all(|outcome| *outcome == Ok(allowed)));
            assert!(stream.try_recv().is_err(), "one question was sent");
            tokio::time::advance(REMEMBERED - Duration::from_millis(1)).await;
            assert_eq!(reviews.remembered(&asked), Some(allowed));
            tokio::time::advance(Duration::from_millis(2)).await;
            assert_eq!(reviews.remembered(&asked), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_decided_or_remembered_without_a_result() {
        let reviews = AccessReviews::default();
        let asked = question("ann");
        assert_eq!(reviews.ask(&asked).await, Err(Undecided), "no operator is connected");
        let mut stream = reviews.connect();
        let (outcome, ()) = tokio::join!(reviews.ask(&asked), reply(&reviews, &mut stream, None));
        assert_eq!(outcome, Err(Undecided), "the API server has not decided");
        assert_eq!(reviews.ask(&asked).await, Err(Undecided), "no result in time");
        let late = stream.recv().await.unwrap();
        let (outcome, ()) = tokio::join!(reviews.ask(&asked), async {
            let next = stream.recv().await.unwrap();
            // The result of a question that nothing waits for any more decides nothing.
            reviews.reviewed(&Reviewed { id: late.id, allowed: Some(true) });
            reviews.reviewed(&Reviewed { id: next.id, allowed: Some(false) });
        });
        assert_eq!(outcome, Ok(false));
        let other = question("bob");
        let disconnect = async {
            stream.recv().await.unwrap();
            reviews.disconnect();
        };
        let began = Instant::now();
        let (outcome, ()) = tokio::join!(reviews.ask(&other), disconnect);
        assert_eq!((outcome, reviews.remembered(&other)), (Err(Undecided), None));
        assert_eq!(began.elapsed(), TIMEOUT, "no operator has connected again");
        // During a longer outage nothing waits.
        assert_eq!(reviews.ask(&other).await, Err(Undecided));
        assert_eq!(began.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_wait_for_the_next_stream_when_one_ends() {
        let reviews = AccessReviews::default();
        let mut first = reviews.connect();
        let (sent, queued, later) = (question("sent"), question("queued"), question("later"));
        let reconnect = async {
            let review = first.recv().await.unwrap();
            assert_eq!(&*review.user, "sent");
            // The second one has not left the proxy.
            reviews.disconnect();
            drop(first);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut second = reviews.connect();
            let mut users = Vec::new();
            for _ in 0..3 {
                let review = second.recv().await.unwrap();
                reviews.reviewed(&Reviewed { id: review.id, allowed: Some(&*review.user != "queued") });
                users.push(review.user);
            }
            users.sort();
            assert_eq!(users, ["later", "queued", "sent"]);
            assert!(second.try_recv().is_err(), "each question was sent once");
        };
        let after = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            reviews.ask(&later).await
        };
        let (one, two, three, ()) = tokio::join!(reviews.ask(&sent), reviews.ask(&queued), after, reconnect);
        assert_eq!((one, two, three), (Ok(true), Ok(false), Ok(true)));
        // A question that nothing waits for any more is not asked again.
        let mut third = reviews.connect();
        assert_eq!(reviews.ask(&question("old")).await, Err(Undecided));
        third.recv().await.unwrap();
        reviews.disconnect();
        assert!(reviews.connect().try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn questions_and_requests_that_wait_are_limited() {
        let reviews = AccessReviews::default();
        let mut stream = reviews.connect();
        // As many as the stream takes, and more.
        let asked: Vec<Question> = (0..1000).map(|number| question(&number.to_string())).collect();
        let outcomes = join_all(asked.iter().map(|asked| reviews.ask(asked))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Err(Undecided)));
        let mut sent = 0;
        while stream.try_recv().is_ok() {
            sent += 1;
        }
        assert_eq!(sent, QUEUE);
        // Those about one user are limited further.
        let methods: Vec<Question> =
            (0..40).map(|number| Question { verb: number.to_string().into(), ..question("ann") }).collect();
        let asking = join_all(methods.iter().map(|asked| reviews.ask(asked)));
        let (outcomes, sent) = tokio::join!(asking, async {
            tokio::task::yield_now().await;
            let mut sent = 0;
            while let Ok(review) = stream.try_recv() {
                sent += 1;
                reviews.reviewed(&Reviewed { id: review.id, allowed: Some(true) });
            }
            sent
        });
        let allowed = outcomes.iter().filter(|outcome| **outcome == Ok(true)).count();
        assert_eq!((sent, allowed), (MAX_OF_USER, MAX_OF_USER));
        // They take no place for ever.
        for round in 0..(2 * MAX_QUESTIONS) {
            let next = question(&format!("next {round}"));
            let (outcome, ()) = tokio::join!(reviews.ask(&next), reply(&reviews, &mut stream, Some(true)));
            assert_eq!(outcome, Ok(true), "{round}");
        }
    }
}

//! Limits of calls and tokens, enforced before anything is sent.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{ChatError, ChatRequest, Usage};

/// What a job may use; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetLimits {
    /// Calls. Each try of a call counts.
    pub max_calls: Option<u64>,
    /// Tokens of requests and answers together.
    pub max_tokens: Option<u64>,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Calls; each try counts.
    pub calls: u64,
    /// Tokens of the requests.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
}

impl Spent {
    /// Tokens of requests and answers together.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    /// Adds one call.
    pub fn add(&mut self, usage: Usage) {
        self.calls = self.calls.saturating_add(1);
        self.prompt_tokens = self.prompt_tokens.saturating_add(usage.prompt_tokens);
        self.completion_tokens = self
            .completion_tokens
            .saturating_add(usage.completion_tokens);
    }
}

/// Counts calls and tokens of any number of threads against limits.
///
/// Before a try its largest possible cost is reserved; afterwards the reservation is settled with
/// what it did cost, or dropped if nothing was sent. At every moment
///
/// ```text
/// spent + reserved <= limit
/// ```
///
/// for calls and for tokens, as long as no try costs more than was reserved for it. If a server
/// counts more than that, the true count is kept and the next reservation finds less room.
///
/// ```
/// use datagen::chat::{Budget, BudgetLimits, Usage};
///
/// let budget = Budget::new(BudgetLimits { max_calls: Some(2), max_tokens: Some(100) });
/// let reservation = budget.reserve(80)?;
/// budget.settle(reservation, Usage { prompt_tokens: 20, completion_tokens: 10 });
/// assert_eq!(budget.spent().tokens(), 30);
/// assert!(budget.reserve(71).is_err());
/// # Ok::<(), datagen::chat::ChatError>(())
/// ```
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    reserved_calls: u64,
    reserved_tokens: u64,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limits: BudgetLimits) -> Self {
        Self::starting_from(limits, Spent::default())
    }

    /// A budget without limits, which only counts.
    pub fn unlimited() -> Self {
        Self::new(BudgetLimits::default())
    }

    /// A budget of which `spent` is used already, for a job that goes on.
    pub fn starting_from(limits: BudgetLimits, spent: Spent) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                spent,
                ..State::default()
            }),
            freed: Condvar::new(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> BudgetLimits {
        self.limits
    }

    /// What was used; open reservations are not in it.
    pub fn spent(&self) -> Spent {
        self.state().spent
    }

    /// Reserves one call of at most `tokens` tokens, request and answer together.
    ///
    /// If only the open reservations of other threads stand in the way, this waits until enough of
    /// them are closed, so that estimates above the true cost do not end a job early. A thread that
    /// holds a reservation must therefore close it before it reserves again.
    ///
    /// # Errors
    ///
    /// [`ChatError::Budget`] if what is spent leaves no room for the call.
    pub fn reserve(&self, tokens: u64) -> Result<Reservation<'_>, ChatError> {
        let max_calls = self.limits.max_calls.unwrap_or(u64::MAX);
        let max_tokens = self.limits.max_tokens.unwrap_or(u64::MAX);
        let spent_up = |unit, limit, spent, asked| ChatError::Budget {
            unit,
            limit,
            spent,
            asked,
        };
        let mut state = self.state();
        loop {
            let spent = state.spent;
            let calls_left = max_calls.saturating_sub(spent.calls);
            if calls_left == 0 {
                return Err(spent_up("calls", max_calls, spent.calls, 1));
            }
            let tokens_left = max_tokens.saturating_sub(spent.tokens());
            if tokens > tokens_left {
                return Err(spent_up("tokens", max_tokens, spent.tokens(), tokens));
            }
            let more_tokens = state.reserved_tokens.saturating_add(tokens);
            if state.reserved_calls < calls_left && more_tokens <= tokens_left {
                state.reserved_calls += 1;
                state.reserved_tokens = more_tokens;
                return Ok(Reservation {
                    budget: self,
                    tokens,
                });
            }
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes a reservation: the call counts, with what it did cost.
    pub fn settle(&self, reservation: Reservation<'_>, usage: Usage) {
        // The guard knows its budget and gives its room back when it is dropped below; counting
        // before that keeps `spent + reserved` an upper bound throughout.
        reservation.budget.state().spent.add(usage);
        drop(reservation);
    }

    /// A panic elsewhere cannot leave the counters half-written, so a poisoned lock is used on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room in a [`Budget`] for one call. Dropped without [`Budget::settle`], it is given back and
/// nothing counts.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is given back"]
pub struct Reservation<'b> {
    budget: &'b Budget,
    tokens: u64,
}

impl Reservation<'_> {
    /// Tokens reserved.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.reserved_calls = state.reserved_calls.saturating_sub(1);
        state.reserved_tokens = state.reserved_tokens.saturating_sub(self.tokens);
        drop(state);
        self.budget.freed.notify_all();
    }
}

/// Tokens of a text where no server counted them: one for every 4 bytes of UTF-8, rounded up.
///
/// Byte-level and WordPiece vocabularies of English come to 3.5 to 4.5 bytes a token.
pub fn estimated_tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// Usage of a request and its answer where no server counted them: [`estimated_tokens`] of the
/// system text, the user text and the answer, and 4 more for each of the two messages.
pub fn estimated_usage(request: &ChatRequest, answer: &str) -> Usage {
    Usage {
        prompt_tokens: estimated_tokens(&request.system) + estimated_tokens(&request.user) + 8,
        completion_tokens: estimated_tokens(answer).min(u64::from(request.max_tokens)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage {
            prompt_tokens,
            completion_tokens,
        }
    }

    fn limits(max_calls: impl Into<Option<u64>>, max_tokens: impl Into<Option<u64>>) -> Budget {
        Budget::new(BudgetLimits {
            max_calls: max_calls.into(),
            max_tokens: max_tokens.into(),
        })
    }

    #[test]
    fn reservations_are_settled_or_given_back() {
        let budget = limits(2, 10);
        drop(budget.reserve(10).unwrap());
        assert_eq!(budget.spent(), Spent::default());
        let reservation = budget.reserve(10).unwrap();
        assert_eq!(reservation.tokens(), 10);
        budget.settle(reservation, usage(3, 1));
        assert_eq!(
            budget.reserve(7).unwrap_err(),
            ChatError::Budget {
                unit: "tokens",
                limit: 10,
                spent: 4,
                asked: 7
            }
        );
        let reservation = budget.reserve(6).unwrap();
        budget.settle(reservation, Usage::default());
        let error = budget.reserve(0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the budget of 2 calls is spent: 2 used, 1 more needed for the next call"
        );
        assert!(error.is_fatal() && error.paid().is_none());
    }

    #[test]
    fn a_resumed_budget_counts_what_was_spent() {
        let spent = Spent {
            calls: 4,
            prompt_tokens: 70,
            completion_tokens: 20,
        };
        let budget = Budget::starting_from(
            BudgetLimits {
                max_calls: Some(5),
                max_tokens: Some(100),
            },
            spent,
        );
        assert_eq!(budget.spent(), spent);
        assert!(budget.reserve(11).is_err());
        budget.settle(budget.reserve(10).unwrap(), usage(5, 5));
        assert!(budget.reserve(0).is_err());
        assert_eq!(budget.spent().tokens(), 100);
    }

    #[test]
    fn a_call_that_costs_more_than_reserved_is_counted_in_full() {
        let budget = limits(None, 10);
        budget.settle(budget.reserve(4).unwrap(), usage(50, 1));
        assert_eq!(budget.spent().tokens(), 51);
        assert!(budget.reserve(0).is_ok());
        assert!(budget.reserve(1).is_err());
        let endless = Budget::unlimited();
        endless.settle(endless.reserve(u64::MAX).unwrap(), usage(u64::MAX, 1));
        assert_eq!(endless.spent().tokens(), u64::MAX);
    }

    #[test]
    fn room_that_others_only_reserved_is_waited_for() {
        let budget = limits(None, 100);
        let held = budget.reserve(90).unwrap();
        let waited = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.reserve(50).map(drop));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            budget.settle(held, usage(10, 0));
            waiting.join().unwrap()
        });
        assert_eq!(waited, Ok(()));
    }

    #[test]
    fn estimates_follow_the_rule() {
        let request = ChatRequest {
            system: "12345".into(),
            user: String::new(),
            temperature: 0.0,
            max_tokens: 3,
            schema: None,
        };
        assert_eq!(estimated_usage(&request, "abc"), usage(2 + 8, 1));
        assert_eq!(estimated_usage(&request, &"x".repeat(400)), usage(10, 3));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whatever threads reserve, settle and give back, no limit is passed at any moment, and no
        /// room is lost.
        #[test]
        fn limits_hold_under_threads(
            max_calls in 0_u64..40,
            max_tokens in 0_u64..400,
            plans in prop::collection::vec(
                prop::collection::vec((0_u64..30, 0_u64..30, prop::bool::ANY), 0..20), 1..6),
        ) {
            let budget = limits(max_calls, max_tokens);
            // Shadow counters of what is under way; raised after and lowered before the budget's.
            let (calls, tokens) = (AtomicU64::new(0), AtomicU64::new(0));
            let (settled, cost) = (AtomicU64::new(0), AtomicU64::new(0));
            let (budget, calls, tokens, settled, cost) = (&budget, &calls, &tokens, &settled, &cost);
            let within = std::thread::scope(|scope| {
                let threads: Vec<_> = plans.iter().map(|plan| scope.spawn(move || {
                    let mut within = true;
                    for &(asked, used, keep) in plan {
                        let Ok(reservation) = budget.reserve(asked) else { continue };
                        let used = used.min(asked);
                        within &= calls.fetch_add(1, Ordering::SeqCst) < max_calls;
                        within &= tokens.fetch_add(asked, Ordering::SeqCst) + asked <= max_tokens;
                        std::thread::yield_now();
                        if keep {
                            tokens.fetch_sub(asked - used, Ordering::SeqCst);
                            settled.fetch_add(1, Ordering::SeqCst);
                            cost.fetch_add(used, Ordering::SeqCst);
                            budget.settle(reservation, usage(used / 2, used - used / 2));
                        } else {
                            calls.fetch_sub(1, Ordering::SeqCst);
                            tokens.fetch_sub(asked, Ordering::SeqCst);
                            drop(reservation);
                        }
                    }
                    within
                })).collect();
                threads.into_iter().all(|thread| thread.join().unwrap())
            });
            prop_assert!(within);
            let spent = budget.spent();
            prop_assert_eq!(spent.calls, settled.load(Ordering::SeqCst));
            prop_assert_eq!(spent.tokens(), cost.load(Ordering::SeqCst));
            prop_assert!(spent.calls <= max_calls && spent.tokens() <= max_tokens);
            if spent.calls < max_calls {
                prop_assert!(budget.reserve(max_tokens - spent.tokens()).is_ok());
            }
        }
    }
}

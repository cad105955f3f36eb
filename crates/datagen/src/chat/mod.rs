//! Asking a chat model: requests, answers, and who may give them.
//!
//! A [`Call`] is one question with a stable identity; an [`AnswerSource`] answers it. A model server,
//! a recorded journal and a set of rules are all sources, so that every job runs with or without a
//! network.

mod budget;
mod client;
mod error;
pub mod structured;

use serde::{Deserialize, Serialize};

pub use budget::{Budget, BudgetLimits, Reservation, Spent, estimated_tokens, estimated_usage};
pub use client::{ChatClient, ChatConfig};
pub use error::ChatError;
pub use web::{ApiKey, KeyError};

/// What is sent to a model: one system text, one user text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The task, with its demonstrations.
    pub system: String,
    /// What the task is to be done with, usually the bare source sentence.
    pub user: String,
    /// Sampling temperature; 0 asks for the likeliest answer.
    pub temperature: f64,
    /// Longest answer, in the model's tokens.
    pub max_tokens: u32,
    /// JSON schema that the answer has to meet; `None` for plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

/// One question of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Unique in the job and the same in every run of it, for instance `17/positive`.
    pub id: String,
    /// What is asked for, in the words of the pattern: `nli/entailment`, `sts/negative`, `name`.
    pub kind: String,
    /// The text that the answer is about; answers are compared with it.
    pub source: String,
    /// The question itself.
    pub request: ChatRequest,
}

/// Tokens that a model counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the request.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

/// What came back for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text as it came, unchecked.
    pub text: String,
    /// What it cost.
    pub usage: Usage,
}

/// Anything that answers calls.
pub trait AnswerSource: Sync {
    /// Name for journals and reports, for instance the model's. Answers of differently named sources
    /// are never taken for one another.
    fn name(&self) -> &str;

    /// Answers a call. `attempt` counts from 0 and differs where an earlier answer was refused; a
    /// source without randomness may give the same answer again.
    ///
    /// # Errors
    ///
    /// [`ChatError`], which says whether anything was paid for and whether the job can go on.
    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError>;
}

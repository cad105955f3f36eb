//! Asks a model server one question, as a check of address, model and key.
//!
//! ```text
//! cargo run -p datagen --example ask -- http://127.0.0.1:8000/v1 some-model "The train is late."
//! ```
//!
//! The key, where one is needed, is taken from the environment variable `MODEL_KEY`.

use std::error::Error;
use std::sync::Arc;

use datagen::chat::{
    AnswerSource, ApiKey, Budget, BudgetLimits, Call, ChatClient, ChatConfig, ChatRequest,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(base_url), Some(model), Some(text)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: ask BASE_URL MODEL TEXT".into());
    };
    let key = ApiKey::from_env("MODEL_KEY").ok();
    let budget = Arc::new(Budget::new(BudgetLimits {
        max_calls: Some(10),
        max_tokens: Some(10_000),
    }));
    let client = ChatClient::new(ChatConfig::new(base_url, model), key, Arc::clone(&budget))?;
    let call = Call {
        id: "0".to_owned(),
        kind: "example".to_owned(),
        source: text.clone(),
        request: ChatRequest {
            system: "Say the same in other words, in one sentence.".to_owned(),
            user: text,
            temperature: 1.0,
            max_tokens: 64,
            schema: None,
        },
    };
    let outcome = client.answer(&call, 0);
    let spent = budget.spent();
    eprintln!("{} calls, {} tokens", spent.calls, spent.tokens());
    println!("{}", outcome?.text);
    Ok(())
}

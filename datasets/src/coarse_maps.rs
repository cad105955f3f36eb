//! Which coarse category a fine category belongs to, where the name alone does not say.

/// The ten domains of CLINC150 with the fifteen intents of each, both in byte order.
///
/// Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope
/// Prediction"; the grouping is the one of the DOWN reference reader.
const CLINC: [(&str, [&str; 15]); 10] = [
    (
        "auto",
        [
            "current_location",
            "directions",
            "distance",
            "gas",
            "gas_type",
            "jump_start",
            "last_maintenance",
            "mpg",
            "oil_change_how",
            "oil_change_when",
            "schedule_maintenance",
            "tire_change",
            "tire_pressure",
            "traffic",
            "uber",
        ],
    ),
    (
        "banking",
        [
            "account_blocked",
            "balance",
            "bill_balance",
            "bill_due",
            "freeze_account",
            "interest_rate",
            "min_payment",
            "order_checks",
            "pay_bill",
            "pin_change",
            "report_fraud",
            "routing",
            "spending_history",
            "transactions",
            "transfer",
        ],
    ),
    (
        "credit_cards",
        [
            "application_status",
            "apr",
            "card_declined",
            "credit_limit",
            "credit_limit_change",
            "credit_score",
            "damaged_card",
            "expiration_date",
            "improve_credit_score",
            "international_fees",
            "new_card",
            "redeem_rewards",
            "replacement_card_duration",
            "report_lost_card",
            "rewards_balance",
        ],
    ),
    (
        "home",
        [
            "calendar",
            "calendar_update",
            "next_song",
            "order",
            "order_status",
            "play_music",
            "reminder",
            "reminder_update",
            "shopping_list",
            "shopping_list_update",
            "smart_home",
            "todo_list",
            "todo_list_update",
            "update_playlist",
            "what_song",
        ],
    ),
    (
        "kitchen",
        [
            "accept_reservations",
            "calories",
            "cancel_reservation",
            "confirm_reservation",
            "cook_time",
            "food_last",
            "how_busy",
            "ingredient_substitution",
            "ingredients_list",
            "meal_suggestion",
            "nutrition_info",
            "recipe",
            "restaurant_reservation",
            "restaurant_reviews",
            "restaurant_suggestion",
        ],
    ),
    (
        "meta",
        [
            "cancel",
            "change_accent",
            "change_ai_name",
            "change_language",
            "change_speed",
            "change_user_name",
            "change_volume",
            "maybe",
            "no",
            "repeat",
            "reset_settings",
            "sync_device",
            "user_name",
            "whisper_mode",
            "yes",
        ],
    ),
    (
        "talk",
        [
            "are_you_a_bot",
            "do_you_have_pets",
            "fun_fact",
            "goodbye",
            "greeting",
            "how_old_are_you",
            "meaning_of_life",
            "tell_joke",
            "thank_you",
            "what_are_your_hobbies",
            "what_can_i_ask_you",
            "what_is_your_name",
            "where_are_you_from",
            "who_do_you_work_for",
            "who_made_you",
        ],
    ),
    (
        "travel",
        [
            "book_flight",
            "book_hotel",
            "car_rental",
            "carry_on",
            "exchange_rate",
            "flight_status",
            "international_visa",
            "lost_luggage",
            "plug_type",
            "timezone",
            "translate",
            "travel_alert",
            "travel_notification",
            "travel_suggestion",
            "vaccines",
        ],
    ),
    (
        "utility",
        [
            "alarm",
            "calculator",
            "date",
            "definition",
            "find_phone",
            "flip_coin",
            "make_call",
            "measurement_conversion",
            "roll_dice",
            "share_location",
            "spelling",
            "text",
            "time",
            "timer",
            "weather",
        ],
    ),
    (
        "work",
        [
            "direct_deposit",
            "income",
            "insurance",
            "insurance_change",
            "meeting_schedule",
            "next_holiday",
            "payday",
            "pto_balance",
            "pto_request",
            "pto_request_status",
            "pto_used",
            "rollover_401k",
            "schedule_meeting",
            "taxes",
            "w2",
        ],
    ),
];

/// The CLINC domain of an intent, `None` for a name that is not one of the 150.
///
/// ```
/// use datasets::coarse_maps::clinc_domain;
/// assert_eq!(clinc_domain("pin_change"), Some("banking"));
/// assert_eq!(clinc_domain("pin change"), None);
/// ```
pub fn clinc_domain(intent: &str) -> Option<&'static str> {
    CLINC
        .iter()
        .find(|(_, intents)| intents.contains(&intent))
        .map(|(domain, _)| *domain)
}

/// All 150 `(intent, domain)` pairs, domain after domain.
pub fn clinc_intents() -> impl Iterator<Item = (&'static str, &'static str)> {
    CLINC
        .iter()
        .flat_map(|(domain, intents)| intents.iter().map(|intent| (*intent, *domain)))
}

/// The part of a label before its first `_` or `.`, trimmed as labels are; the whole label if it has
/// neither.
///
/// HWU64 labels are `scenario_intent`, WOS labels are `domain.area`.
///
/// ```
/// use datasets::coarse_maps::prefix;
/// assert_eq!(prefix("alarm_query"), "alarm");
/// assert_eq!(prefix("3.1"), "3");
/// assert_eq!(prefix("plain"), "plain");
/// ```
pub fn prefix(label: &str) -> &str {
    label.split(['_', '.']).next().unwrap_or(label).trim()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_hundred_and_fifty_intents_in_ten_domains() {
        let intents: BTreeSet<&str> = clinc_intents().map(|(intent, _)| intent).collect();
        let domains: BTreeSet<&str> = clinc_intents().map(|(_, domain)| domain).collect();
        assert_eq!((intents.len(), domains.len()), (150, 10));
        assert_eq!(clinc_domain("order"), Some("home"));
        assert_eq!(clinc_domain("maybe"), Some("meta"));
        assert_eq!(clinc_domain("w2"), Some("work"));
        assert_eq!(clinc_domain(""), None);
    }

    #[test]
    fn intents_are_in_byte_order() {
        for (_, intents) in &CLINC {
            assert!(intents.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn prefix_stops_at_whichever_separator_comes_first() {
        assert_eq!(prefix("a.b_c"), "a");
        assert_eq!(prefix("a_b.c"), "a");
        assert_eq!(prefix("_x"), "");
        // Else `home` and `home ` would be two classes, and one again once they are written and read.
        assert_eq!(prefix("home\u{b}_door"), "home");
    }
}

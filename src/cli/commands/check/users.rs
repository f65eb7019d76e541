//! The users to look up, in little memory: there may be millions.

use zim_batch::User;
use zim_batch::client::MAX_USERS;
use zim_batch::row::Numbered;

/// Users, and the first line of each.
#[derive(Debug, Default)]
pub struct Users {
    /// All IDs, one after the other.
    ids: String,
    /// Where each ID ends there, and its line.
    ends: Vec<(usize, u64)>,
}

impl Users {
    pub fn push(&mut self, line: u64, id: &str) {
        self.ids.push_str(id);
        self.ends.push((self.ids.len(), line));
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many requests look up all of them.
    pub fn batches(&self) -> usize {
        self.len().div_ceil(MAX_USERS)
    }

    /// The users of a request; `index` counts from 0.
    pub fn batch(&self, index: usize) -> impl Iterator<Item = Numbered<User>> {
        let first = index * MAX_USERS;
        let users = self.ends.iter().enumerate().skip(first).take(MAX_USERS);
        users.filter_map(|(index, &(end, line))| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
            let item = User::new(&self.ids[start..end]).ok()?;
            Some(Numbered { line, item })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_in_one_batch_with_its_line() {
        let mut users = Users::default();
        let all: Vec<(u64, String)> = (1..=250).map(|line| (line, format!("用户{line}"))).collect();
        all.iter().for_each(|(line, id)| users.push(*line, id));
        assert_eq!((users.len(), users.batches()), (250, 3));
        let in_batches = (0..3).flat_map(|index| users.batch(index));
        let in_batches: Vec<_> = in_batches.map(|user| (user.line, user.item.id().to_owned())).collect();
        assert_eq!(in_batches, all);
        assert_eq!(users.batch(3).count(), 0);
    }
}

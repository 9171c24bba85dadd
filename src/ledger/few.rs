use std::ops::{Deref, DerefMut};

/// A list that mostly has one element, which costs no allocation.
#[derive(Clone, Debug)]
pub(crate) enum Few<T> {
    One(T),
    /// None, or several.
    List(Vec<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl<T> Few<T> {
    pub(crate) fn push(&mut self, element: T) {
        *self = match std::mem::take(self) {
            Self::One(first) => Self::List(vec![first, element]),
            Self::List(list) if list.is_empty() => Self::One(element),
            Self::List(mut list) => {
                list.push(element);
                Self::List(list)
            }
        };
    }

    /// Takes out the element at this position, which there has to be; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        match self {
            Self::List(list) => drop(list.swap_remove(at)),
            Self::One(_) => *self = Self::default(),
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut few = Self::default();
        elements.into_iter().for_each(|element| few.push(element));
        few
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(element) => std::slice::from_ref(element),
            Self::List(list) => list,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(element) => std::slice::from_mut(element),
            Self::List(list) => list,
        }
    }
}

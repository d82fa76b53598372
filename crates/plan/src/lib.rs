//! Every decision of Portolan as pure functions over the model.

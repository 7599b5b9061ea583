"""Several processes that train one model, on one machine or on several."""

"""Serve a bundle over HTTP. Needs `pip install fastapi uvicorn`.

BUNDLE=artifacts/bundle uvicorn --app-dir infer/examples http_service:app
curl localhost:8000/predict -H 'content-type: application/json' -d '[{"title": "A cohort study"}]'
"""

from __future__ import annotations

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from studytag import Prediction, Predictor
from studytag.errors import InputError

app = FastAPI(title="studytag")
predictor = Predictor.from_pretrained(os.environ.get("BUNDLE", "artifacts/bundle"))


class Article(BaseModel):
    """One article; title or abstract must have text."""

    title: str = ""
    abstract: str = ""


@app.post("/predict")
def predict(articles: list[Article]) -> list[Prediction]:
    """Tag articles. FastAPI runs this in a thread; all requests share the predictor's cores."""
    try:
        return predictor.predict(article.model_dump() for article in articles)
    except InputError as error:
        raise HTTPException(422, str(error)) from error

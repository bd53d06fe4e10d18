"""Secrets of object stores, as the stores' owners write them into a Secret."""

import json

S3_KEYS = 'access_key_id = "AKIAEXAMPLE"\nsecret_access_key = "s3-secret-value"\n'
AZURE_KEY = 'account_key = "azure-secret-value"\n'
GCS_ACCOUNT = json.dumps(
    {
        "type": "service_account",
        "client_email": "a@b.iam.gserviceaccount.com",
        "private_key": "-----BEGIN PRIVATE KEY-----\ngcs-secret-value\n-----END PRIVATE KEY-----\n",
        "private_key_id": "0123",
    }
)

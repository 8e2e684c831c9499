"""AWS Signature Version 4, for requests without a query."""

import base64
import hashlib
import hmac
import time

KEY_ID, SECRET, REGION, SERVICE, HOST = "AKIDBENCH00000000001", "only-for-benchmarks-only-for-benchmarks", "eu-west-1", "execute-api", "api.example"


def signing_key(day):
    key = ("AWS4" + SECRET).encode()
    for text in (day, REGION, SERVICE, "aws4_request"):
        key = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return key


def days():
    """Signing keys of the days on which a run can take place, as a Principal's part has them."""
    now = time.time()
    dates = sorted({time.strftime("%Y%m%d", time.gmtime(now + hours * 3600)) for hours in (-12, 0, 12)})
    return [{"date": day, "region": REGION, "service": SERVICE, "key": base64.b64encode(signing_key(day)).decode()} for day in dates]


def headers(path, method, body):
    """The headers of a signed request."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    canonical = f"{method}\n{path}\n\nhost:{HOST}\nx-amz-date:{date}\n\nhost;x-amz-date\n{hashlib.sha256(body.encode()).hexdigest()}"
    scope = f"{date[:8]}/{REGION}/{SERVICE}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(signing_key(date[:8]), text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={KEY_ID}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}"
    return {"Host": HOST, "X-Amz-Date": date, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}

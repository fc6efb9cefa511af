// Receipts on their way to the server: kept in the App Group until it has taken them.
//
// Absent here: when to send. The extension sends with every push; call `flush` also when the app
// becomes active.

import Foundation
#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

public enum PostriderReceiptKind: String, Codable, Sendable {
    case displayed, clicked, dismissed
}

public final class PostriderReceipts {
    /// Receipts that are kept; beyond it the oldest are dropped.
    public static let receiptsMax = 1_000
    /// Receipts in one request.
    public static let batchReceiptsMax = 100
    /// Time after which a receipt is of no use to anybody.
    public static let keepMs: Int64 = 7 * 24 * 3_600_000
    /// Longest wait for an answer. The extension shows the notification after it at the latest.
    public static let answerSeconds: TimeInterval = 3

    private struct Receipt: Codable, Equatable, Sendable {
        let url: URL
        let id: String
        let token: String
        let kind: PostriderReceiptKind
        let at: Int64

        func isSame(as other: Receipt) -> Bool {
            id == other.id && kind == other.kind
        }
    }

    private struct Sent: Encodable {
        let id: String
        let token: String
        let kind: PostriderReceiptKind
        let at: Int64
    }

    private let file: SharedFile<[Receipt]>
    private let session: URLSession

    /// None if the app has no such group; see its entitlements.
    public init?(appGroup: String) {
        guard let file = SharedFile<[Receipt]>("postrider-receipts.json", appGroup: appGroup) else {
            return nil
        }
        self.file = file
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = Self.answerSeconds
        configuration.timeoutIntervalForResource = Self.answerSeconds
        session = URLSession(configuration: configuration)
    }

    /// Keeps a receipt. The first of an id and a kind counts.
    public func add(_ kind: PostriderReceiptKind, of push: PostriderPush) {
        guard let url = push.receiptURL, let token = push.receiptToken else { return }
        let at = Self.now()
        let receipt = Receipt(url: url, id: push.id, token: token, kind: kind, at: at)
        file.change { kept in
            if !kept.contains(where: { $0.isSame(as: receipt) }) {
                kept = Array((kept + [receipt]).suffix(Self.receiptsMax))
            }
        }
    }

    /// Sends one batch of what is kept, and calls back when the server has answered or could not be
    /// reached. What is left goes with the next one.
    public func flush(then done: @escaping @Sendable () -> Void) {
        let batch = next()
        guard let url = batch.first?.url, let body = Self.body(batch) else { return done() }
        var request = URLRequest(url: url)
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "content-type")
        request.httpBody = body
        let file = self.file
        session.dataTask(with: request) { _, response, _ in
            // Refused for good counts as answered: no repeat would mend it.
            if let code = (response as? HTTPURLResponse)?.statusCode,
                code < 500, ![408, 425, 429].contains(code)
            {
                file.change { kept in
                    kept.removeAll { receipt in batch.contains { $0.isSame(as: receipt) } }
                }
            }
            done()
        }.resume()
    }

    /// Those that go together: to one server, the oldest first.
    private func next() -> [Receipt] {
        var batch: [Receipt] = []
        file.change { kept in
            kept.removeAll { Self.now() - $0.at > Self.keepMs }
            batch = Array(kept.filter { $0.url == kept[0].url }.prefix(Self.batchReceiptsMax))
        }
        return batch
    }

    private static func body(_ batch: [Receipt]) -> Data? {
        let sent = batch.map { Sent(id: $0.id, token: $0.token, kind: $0.kind, at: $0.at) }
        return try? JSONEncoder().encode(["receipts": sent])
    }

    private static func now() -> Int64 {
        Int64(Date().timeIntervalSince1970 * 1_000)
    }
}
